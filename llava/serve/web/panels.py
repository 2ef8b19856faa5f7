"""The parts of the page that show results, as HTML."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Mapping, Sequence

from PIL import Image

from llava.eval.figure import REASON_COLOURS, draw_patches
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Answer
from llava.serve.web import costs
from llava.serve.web.answering import Timed

# Okabe and Ito's colours, as in images/stage_times.png; black is invisible on a dark page.
STAGE_COLOURS = {
    "encode": "#0072b2",
    "prune": "#999999",
    "caption": "#d55e00",
    "select": "#e69f00",
    "splice": "#cc79a7",
    "prefill": "#56b4e9",
    "decode": "#009e73",
}
# A placeholder for something that will appear.
EMPTY_OVERLAY = (
    '<div class="empty">Here the image appears as the model sees it, the patches that it keeps '
    "framed by the reason why.</div>"
)
EMPTY_CANDIDATES = (
    '<div class="empty">Here, what three captions say of the other patches, which of them was '
    "chosen, and where the time goes.</div>"
)
# Marks a picture that has been checked: before that it is not shown, for it may not be one.
SEEN = '<i class="seen"></i>'
# Gradio takes the text of a component for a template.
_BRACES = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;"})


def safe(text: str) -> str:
    """Returns a text escaped for HTML and for Gradio's templates."""
    return html.escape(text).translate(_BRACES)


def warning(text: str | None) -> str:
    """Returns a warning above the answers; empty for None."""
    return f'<p class="warning" role="alert">Warning: {safe(text)}.</p>' if text else ""


def problem(text: str) -> str:
    """Returns the problem shown beside a field."""
    return f'<p class="note problem" role="alert">{safe(text)}</p>'


def advice(text: str | None) -> str:
    """Returns the advice shown beside a field; empty for None."""
    return f'<p class="note" role="status">{safe(text)}</p>' if text else ""


def answer_card(name: str, text: str, timed: Timed | None = None, is_waiting: bool = False) -> str:
    """Returns an answer, so far or complete, under the name of its source.

    Args:
        name: the heading.
        text: the answer so far.
        timed: the complete answer.
        is_waiting: whether more will follow.
    """
    time = f"{timed.seconds:.2f} s" if timed else "&hellip;" if is_waiting else ""
    shown = safe(text) or ("&hellip;" if is_waiting else "(nothing)" if timed else "&ndash;")
    state = "whole" if timed else "waiting" if is_waiting else "idle"
    return (
        f'<section class="card {state}"><header><span>{safe(name)}</span>'
        f'<span class="time">{time}</span></header><p class="answer">{shown}</p></section>'
    )


def overlay(model: LlavaAccm, image: Image.Image, answer: Answer | None) -> str:
    """Returns the kept patches over an RGB image, coloured by reason, with a legend."""
    patches = model.count_tokens()
    kept = list(range(patches)) if answer is None else answer.kept_idx
    reasons = {} if answer is None else answer.reasons
    picture = draw_patches(model, image, kept, reasons)
    counts = Counter(reasons.values())
    legend = "".join(
        f'<li><i style="border-color:rgb{colour}"></i>{reason} <b>{counts[reason]}</b></li>'
        for reason, colour in REASON_COLOURS.items()
        if counts[reason]
    )
    legend = legend or "<li>all are kept: nothing is pruned</li>"
    return (
        f'<figure class="overlay"><h3>{len(kept)} of {patches} patches kept, and why</h3>'
        f'<img src="{_data_uri(picture)}" alt="the image, {len(kept)} of {patches} patches bright">'
        f'<figcaption><ul class="legend">{legend}</ul></figcaption></figure>'
    )


def candidates(answer: Answer) -> str:
    """Returns the captions of the dropped tokens with the selector's scores."""
    supplement = answer.supplement
    if supplement is None or not supplement.candidates:
        return ""
    rows = []
    for text, score, is_chosen in supplement.shown:
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
    """Returns the stage times of each answer on one scale.

    Args:
        answers: the source of each, and the seconds of its stages.
    """
    longest = max(sum(stages.values()) for _, stages in answers)
    seen = {stage for _, stages in answers for stage in stages}
    rows = "".join(
        _bar(name, stages, longest, f"{1000 * sum(stages.values()):.0f} ms")
        for name, stages in answers
    )
    legend = "".join(
        f'<li><i style="background:{colour};border-color:{colour}"></i>{stage}</li>'
        for stage, colour in STAGE_COLOURS.items()
        if stage in seen
    )
    return (
        f'<section class="stages"><h3>Where the time goes</h3>{rows}'
        f'<ul class="legend">{legend}</ul></section>'
    )


def why_slower(pruned: Mapping[str, float], full: Mapping[str, float]) -> str:
    """Returns why a pruned answer with a caption took longer than the full one, if it did.

    Args:
        pruned, full: seconds of the stages of each.
    """
    if "caption" not in pruned or sum(pruned.values()) <= sum(full.values()):
        return ""
    caption = pruned["caption"] + pruned["select"]
    saved = sum(full[stage] - pruned[stage] for stage in ("prefill", "decode"))
    gain = f"saved the LLM {_duration(saved)}" if saved > 0 else "saved the LLM nothing"
    return (
        f'<section class="stages"><p>The caption took {_duration(caption)}, and fewer tokens '
        f"{gain}: one as small as here has less to save than a caption costs.</p></section>"
    )


def costs_elsewhere(model: LlavaAccm, budget: int) -> str:
    """Returns a question's time at LLaVA-1.5-7B's shapes, clearly not measured on this page.

    It is empty if the model has these shapes itself.

    Args:
        model: the model that answered here.
        budget: the number of its visual tokens.
    """
    if costs.is_of_these_shapes(model):
        return ""
    patches, has_caption = model.count_tokens(), model.compensator is not None
    few = costs.WITH_CAPTION if has_caption else costs.PRUNED
    rows = "".join(
        _bar(
            name_of(cost.tokens, costs.PATCHES, has_caption),
            cost.stages,
            costs.FULL.seconds,
            f"{cost.seconds:.1f} s",
        )
        for cost in (few, costs.FULL)
    )
    return (
        '<section class="stages elsewhere"><h3>At LLaVA-1.5-7B&rsquo;s shapes</h3>'
        f"{rows}<p>Measured once, and not here: {safe(costs.CONDITIONS)}; with transformers&rsquo; "
        f"own LLaVA all tokens took {costs.TRANSFORMERS_SECONDS:.1f} s.</p>"
        f"{_correspondence(budget, patches, few.tokens)}</section>"
    )


def name_of(budget: int | None, patches: int, has_caption: bool) -> str:
    """Returns the name of an answer from ``budget`` of N tokens; None is a number yet unknown."""
    if budget == patches:
        return f"All {budget} tokens"
    some = "Some" if budget is None else f"{budget} of {patches}"
    return f"{some} tokens{' and a caption' if has_caption else ''}"


def _correspondence(budget: int, patches: int, measured: int) -> str:
    """Returns how the budget of a model with N patches compares with the measured one."""
    if budget == patches:
        return ""
    of_all = budget * costs.PATCHES / patches
    are = "are" if of_all == measured else "would be, which was not measured"
    share = f"{budget} of {patches} tokens are {100 * budget / patches:.3g}%"
    return f"<p>{share}, as {of_all:.0f} of {costs.PATCHES} {are}.</p>"


def _bar(name: str, stages: Mapping[str, float], longest: float, total: str) -> str:
    """Returns stages side by side; ``longest`` seconds fill the line."""
    pieces = "".join(
        f'<i style="width:{100 * seconds / longest:.2f}%;background:{STAGE_COLOURS[stage]}" '
        f'title="{stage}: {_duration(seconds)}"></i>'
        for stage, seconds in stages.items()
    )
    said = ", ".join(f"{stage} {_duration(seconds)}" for stage, seconds in stages.items())
    return (
        f'<div class="row"><span>{safe(name)}</span><span class="bar" role="img" '
        f'aria-label="{said}">{pieces}</span><b>{total}</b></div>'
    )


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _data_uri(picture: Image.Image) -> str:
    """Returns a picture as a data: URI."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90, subsampling=0)  # frames keep their colours
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
