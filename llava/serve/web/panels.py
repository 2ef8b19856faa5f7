"""The parts of the page that show results, as HTML."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from llava.eval.figure import REASON_COLOURS, data_uri, draw_patches, view_note
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Answer
from llava.serve.web import costs
from llava.serve.web.answering import Timed

# Okabe and Ito's colours, as in images/stage_times.png; black is invisible on a dark page.
STAGE_COLOURS = {
    "encode": "#0072b2",
    "side tower": "#f0e442",
    "prune": "#999999",
    "caption": "#d55e00",
    "relate": "#d55e00",  # a scene graph's, in place of captions
    "select": "#e69f00",
    "splice": "#cc79a7",
    "prefill": "#56b4e9",
    "decode": "#009e73",
}
CAPTION = "a caption"
# A placeholder for something that will appear.
EMPTY_OVERLAY = (
    '<div class="empty">Here the image appears as the model sees it, the patches that it keeps '
    "framed by the reason why.</div>"
)
_CAPTIONS = "what three captions say of the other patches, which of them was chosen, and "
# Marks a picture that has been checked: before that it is not shown, for it may not be one.
SEEN = '<i class="seen"></i>'
# Gradio takes the text of a component for a template.
_BRACES = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;"})


def safe(text: str) -> str:
    """Returns a text escaped for HTML and for Gradio's templates."""
    return html.escape(text).translate(_BRACES)


def answer_card(name: str, text: str, timed: Timed | None = None, is_waiting: bool = False) -> str:
    """Returns an answer, so far or complete, under the name of its source.

    Args:
        name: the heading.
        text: the answer so far.
        timed: the complete answer.
        is_waiting: whether more will follow.
    """
    return fill("answer_card", name, text, timed, is_waiting)


def overlay(model: LlavaAccm, image: Image.Image, answer: Answer | None) -> str:
    """Returns the kept patches over an RGB image, coloured by reason, with a legend."""
    patches = model.count_tokens(image)
    kept = list(range(patches)) if answer is None else answer.kept_idx
    reasons = {} if answer is None else answer.reasons
    picture = draw_patches(model, image, kept, reasons)
    uri = data_uri(picture, quality=90, subsampling=0)  # frames keep their colours
    counts = Counter(reasons.values())
    legend = [(why, colour, counts[why]) for why, colour in REASON_COLOURS.items() if counts[why]]
    return fill("overlay", uri, len(kept), patches, legend, view_note(model, image, kept))


def candidates(answer: Answer) -> str:
    """Returns the texts that a compensation wrote, with their scores."""
    supplement = answer.supplement
    if supplement is None or not supplement.candidates:
        return ""
    return fill("candidates", supplement.shown, supplement.title, supplement.scored)


def stage_bars(answers: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Returns the stage times of each answer on one scale.

    Args:
        answers: the source of each, and the seconds of its stages.
    """
    longest = max(sum(stages.values()) for _, stages in answers)
    seen = {stage for _, stages in answers for stage in stages}
    return fill("stage_bars", answers, longest, seen)


def empty_candidates(writes: str) -> str:
    """Returns the placeholder for what the compensation writes; see LlavaAccm.writes."""
    text = (
        _CAPTIONS if writes == CAPTION else f"{writes} as the model reads it, and " * bool(writes)
    )
    return f'<div class="empty">Here, {text}where the time goes.</div>'


def why_slower(
    pruned: Mapping[str, float], full: Mapping[str, float], writes: str = CAPTION
) -> str:
    """Returns why a pruned answer with a text took longer than the full one, if it did.

    Args:
        pruned, full: seconds of the stages of each.
        writes: what the text is; see LlavaAccm.writes.
    """
    spent = sum(pruned.get(stage, 0) for stage in ("caption", "relate", "select"))
    if not spent or sum(pruned.values()) <= sum(full.values()):
        return ""
    saved = sum(full[stage] - pruned[stage] for stage in ("prefill", "decode"))
    return fill("why_slower", writes.removeprefix("a "), spent, saved)


def costs_elsewhere(model: LlavaAccm, budget: int, image: Image.Image | None = None) -> str:
    """Returns a question's time at LLaVA-1.5-7B's shapes, clearly not measured on this page.

    It is empty if the model has these shapes itself.

    Args:
        model: the model that answered here.
        budget: the number of visual tokens that it read.
        image: the image that they are of; None is one of the most tokens.
    """
    if costs.is_of_these_shapes(model):
        return ""
    patches = model.count_tokens(image)
    writes = CAPTION if model.writes == CAPTION else ""  # no other text was measured there
    few = costs.WITH_CAPTION if writes else costs.PRUNED
    shown = [(name_of(c.tokens, costs.PATCHES, writes), c) for c in (few, costs.FULL)]
    return fill("costs_elsewhere", costs, shown, _correspondence(budget, patches, few.tokens))


def name_of(budget: int | None, patches: int, writes: str) -> str:
    """Returns the name of an answer from ``budget`` of N tokens; None is a number yet unknown.

    Args:
        budget: K.
        patches: N.
        writes: what the model reads beside them; see LlavaAccm.writes.
    """
    if budget == patches:
        return f"All {budget} tokens"
    some = "Some" if budget is None else f"{budget} of {patches}"
    return f"{some} tokens{f' and {writes}' if writes else ''}"


def _correspondence(budget: int, patches: int, measured: int) -> str:
    """Returns how the budget of a model with N patches compares with the measured one."""
    if budget == patches:
        return ""
    of_all = budget * costs.PATCHES / patches
    are = "are" if of_all == measured else "would be, which was not measured"
    share = f"{budget} of {patches} tokens are {100 * budget / patches:.3g}%"
    return f"{share}, as {of_all:.0f} of {costs.PATCHES} {are}."


_ENVIRONMENT = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    trim_blocks=True,
    undefined=StrictUndefined,
    finalize=lambda value: value if isinstance(value, Markup) else Markup(safe(str(value))),
)
_ENVIRONMENT.filters["duration"] = lambda s: f"{1000 * s:.1f} ms" if s < 1 else f"{s:.1f} s"
_ENVIRONMENT.globals["STAGE_COLOURS"] = STAGE_COLOURS
_PANELS = _ENVIRONMENT.get_template("panels.html").module


def fill(name: str, *values: object) -> str:
    """Returns a filled-in part of templates/panels.html, such as a problem beside a field."""
    return str(getattr(_PANELS, name)(*values)).strip()
