"""One question of a disagreement, as a card of the page."""

from __future__ import annotations

from html import escape

from llava.eval.benchmarks.question import Question
from llava.eval.report.disagreements import Case, Side
from llava.eval.report.runs import UNBOUNDED


def case_card(case: Case) -> str:
    """The picture, the question, both answers, and the captions with the chosen one marked."""
    pictures = "".join(
        f'<figure><img src="{picture.uri}" alt="{_text(picture.caption)}" loading="lazy">'
        f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
        for picture in case.pictures
    )
    sides = "".join(_side(side) for side in case.sides)
    captions = "".join(_captions(side) for side in case.sides)
    return (
        f'<div class="case"><div>{pictures}</div><div><span class="key">{_text(case.key)}</span>'
        f'{_question(case.question)}<div class="sides">{sides}</div>{captions}</div></div>'
    )


def _question(question: Question | None) -> str:
    """The prompt, the part in bold that is the question itself."""
    if question is None:
        return ""
    before, asked, after = question.prompt.partition(question.tower_question)
    marked = f"<b>{_text(asked)}</b>" if asked else ""
    outside = [f"<span>{_text(text)}</span>" if text else "" for text in (before, after)]
    return f'<p class="question">{outside[0]}{marked}{outside[1]}</p>'


def _side(side: Side) -> str:
    if side.run.benchmark in UNBOUNDED:
        kind, verdict = "", f"scores {side.score:.2f}"
    elif side.score in (0, 1):
        kind, verdict = ("good", "right") if side.score else ("bad", "wrong")
    else:
        kind, verdict = ("good" if side.score >= 0.5 else "bad"), f"scores {side.score:.2f}"
    answer = ""
    if side.entry is not None:
        answer = f'<p class="answer">{_text(side.entry.text) or "(nothing)"}</p>'
    return (
        f'<div class="side {kind}"><h4>{_text(side.run.label)} &middot; '
        f'<span class="verdict">{verdict}</span></h4>{answer}</div>'
    )


def _captions(side: Side) -> str:
    entry = side.entry
    if entry is None or not entry.captions:
        return ""
    lines = []
    for place, caption in enumerate(entry.captions):
        chosen = place == entry.chosen
        score = f"{entry.selector_scores[place]:.3f}" if entry.selector_scores else ""
        mark = " ".join(word for word in ("chosen" if chosen else "", score) if word)
        kind = ' class="chosen"' if chosen else ""
        lines.append(f"<li{kind}><i>{mark}</i>{_text(caption.strip() or '(no caption)')}</li>")
    head = f"<h4>captions of {_text(side.run.label)}</h4>"
    return f'<ul class="captions">{head}{"".join(lines)}</ul>'


def _text(text: str) -> str:
    """Escaped, and without what UTF-8 cannot hold (half a surrogate pair)."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))
