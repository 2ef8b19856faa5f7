"""The parts of the page that show what happened, as HTML."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Mapping, Sequence

from PIL import Image

from llava.eval.figure import REASON_COLOURS, draw_patches, kept_reasons
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Answer
from llava.serve.web.answering import Timed

# Okabe and Ito's, as in images/stage_times.png; black would not be seen on a dark page.
STAGE_COLOURS = {
    "encode": "#0072b2",
    "prune": "#999999",
    "caption": "#d55e00",
    "select": "#e69f00",
    "splice": "#cc79a7",
    "prefill": "#56b4e9",
    "decode": "#009e73",
}
# Where something is to appear.
EMPTY_OVERLAY = (
    '<div class="empty">Here the image appears as the model sees it, the patches that it keeps '
    "framed by the reason why.</div>"
)
EMPTY_CANDIDATES = (
    '<div class="empty">Here, what three captions say of the other patches, which of them was '
    "chosen, and where the time goes.</div>"
)
# Gradio takes what stands in a component for a template.
_BRACES = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;"})


def safe(text: str) -> str:
    """A text that stands for nothing but itself in HTML and in Gradio's templates."""
    return html.escape(text).translate(_BRACES)


def warning(text: str | None) -> str:
    """A warning above the answers; None is nothing."""
    return f'<p class="warning" role="alert">Warning: {safe(text)}.</p>' if text else ""


def answer_card(name: str, text: str, timed: Timed | None = None, is_waiting: bool = False) -> str:
    """An answer, so far or whole, under the name of what gave it.

    Args:
        name: the heading.
        text: the answer so far.
        timed: the whole answer.
        is_waiting: more is to come.
    """
    time = f"{timed.seconds:.2f} s" if timed else "&hellip;" if is_waiting else ""
    shown = safe(text) or ("&hellip;" if is_waiting else "(nothing)" if timed else "&ndash;")
    state = "whole" if timed else "waiting" if is_waiting else "idle"
    return (
        f'<section class="card {state}"><header><span>{safe(name)}</span>'
        f'<span class="time">{time}</span></header><p class="answer">{shown}</p></section>'
    )


def overlay(model: LlavaAccm, image: Image.Image, answer: Answer) -> str:
    """The kept patches over an RGB image, coloured by reason, with a legend."""
    reasons = {} if answer.selection is None else kept_reasons(answer.selection)
    picture = draw_patches(model, image, answer.kept_idx, reasons)
    kept, patches = len(answer.kept_idx), model.tower.num_patches
    counts = Counter(reasons.values())
    legend = "".join(
        f'<li><i style="border-color:rgb{colour}"></i>{reason} <b>{counts[reason]}</b></li>'
        for reason, colour in REASON_COLOURS.items()
        if counts[reason]
    )
    legend = legend or "<li>all are kept: nothing is pruned</li>"
    return (
        f'<figure class="overlay"><h3>{kept} of {patches} patches kept, and why</h3>'
        f'<img src="{_data_uri(picture)}" alt="the image, {kept} of {patches} patches bright">'
        f'<figcaption><ul class="legend">{legend}</ul></figcaption></figure>'
    )


def candidates(answer: Answer) -> str:
    """The captions that were written of the dropped tokens, with the selector's scores."""
    compensation = answer.compensation
    if compensation is None:
        return ""
    rows = []
    for text, score, is_chosen in compensation.shown:
        rows.append(
            f'<li class="{"chosen" if is_chosen else ""}"><span class="meter">'
            f'<i style="width:{100 * score:.1f}%"></i></span><b>{score:.3f}</b>'
            f"<p>{safe(text)}{' <em>chosen</em>' if is_chosen else ''}</p></li>"
        )
    return (
        '<section class="candidates"><h3>What the dropped tokens said, and the '
        f"selector&rsquo;s scores</h3><ol>{''.join(rows)}</ol></section>"
    )


def stage_bars(answers: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """What the stages of each answer took, side by side on one scale.

    Args:
        answers: what gave each, and the seconds of its stages.
    """
    longest = max(sum(stages.values()) for _, stages in answers)
    seen = {stage for _, stages in answers for stage in stages}
    rows = "".join(_bar(name, stages, longest) for name, stages in answers)
    legend = "".join(
        f'<li><i style="background:{colour};border-color:{colour}"></i>{stage}</li>'
        for stage, colour in STAGE_COLOURS.items()
        if stage in seen
    )
    return (
        f'<section class="stages"><h3>Where the time goes</h3>{rows}'
        f'<ul class="legend">{legend}</ul></section>'
    )


def _bar(name: str, stages: Mapping[str, float], longest: float) -> str:
    pieces = "".join(
        f'<i style="width:{100 * seconds / longest:.2f}%;background:{STAGE_COLOURS[stage]}" '
        f'title="{stage}: {1000 * seconds:.1f} ms"></i>'
        for stage, seconds in stages.items()
    )
    total = 1000 * sum(stages.values())
    return (
        f'<div class="row"><span>{safe(name)}</span><span class="bar">{pieces}</span>'
        f"<b>{total:.0f} ms</b></div>"
    )


def _data_uri(picture: Image.Image) -> str:
    """A picture that needs no file and no address."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90, subsampling=0)  # frames keep their colours
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
