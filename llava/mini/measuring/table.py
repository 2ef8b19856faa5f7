"""Writes the numbers of a measurement as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Mapping

from llava.eval.report.runs import BENCHMARKS
from llava.eval.report.statistics import DRAWS, Sampled
from llava.markdown import markdown_table
from llava.mini.measuring.metrics import ANSWERED, CHOSEN, FIRST, WRITERS, Figures, Group
from llava.mini.measuring.passes import FULL, NOTHING, PRUNED, RULES
from llava.mini.measuring.patches import GROUPS
from llava.mini.measuring.scores import ACCM, ROWS

EXPLANATION = (
    "Scores from 0 to 1; a caption of Flickr30k scores a fifth of its CIDEr, at most 1. Means over "
    "benchmarks weigh each the same; a kind's mean is over its questions in all of them. Recovery: "
    f"(accm - pruned) / (full - pruned). In brackets 95% paired bootstrap intervals ({DRAWS} draws "
    "of the images, each with all its questions); they hold the model fixed."
)
_GAIN = f"{ACCM} - {PRUNED}"


def tables(found: Figures, budget: int) -> str:
    """Returns all tables, each under its heading.

    Args:
        found: the numbers.
        budget: number of tokens that pruning kept.
    """
    sections = [("Scores by benchmark", _by_benchmark(found)), ("Scores by kind", _by_kind(found))]
    sections.append(("Which caption", _choices(found)))
    sections.append(("Differences", _differences(found)))
    if found.captions is not None:
        sections.append(("What captions say of the object asked for", _captions(found)))
        sections.append(("Where kept patches lie", _patches(found)))
    texts = [f"# Mini benchmarks at {budget} tokens", EXPLANATION]
    for heading, lines in sections:
        texts.append(f"## {heading}\n\n" + "\n".join(lines))
    return "\n\n".join(texts) + "\n"


def cell(number: Sampled | None) -> str:
    """Returns a number with its interval, which is left out if it has no width."""
    if number is None:
        return "-"
    value, low, high = (_digits(end) for end in (number.value, number.low, number.high))
    return value if low == high else f"{value} [{low}, {high}]"


def _digits(value: float) -> str:
    # Adding zero removes the sign of a zero.
    return f"{round(value, 3) + 0.0:.3f}" if math.isfinite(value) else "none"


def _scores(heading: str, groups: Mapping[str, Group]) -> list[str]:
    shown = (FULL, NOTHING, PRUNED, ACCM)
    rows = [
        [
            name,
            str(group.questions),
            *(cell(group.scores[row]) for row in shown),
            cell(group.differences[_GAIN]),
            cell(group.recovery),
        ]
        for name, group in groups.items()
    ]
    return markdown_table((heading, "Questions", *shown, _GAIN, "recovery"), rows, texts=1)


def _by_benchmark(found: Figures) -> list[str]:
    groups = {BENCHMARKS[name]: group for name, group in found.benchmarks.items()}
    return _scores("Benchmark", groups | _means(found))


def _by_kind(found: Figures) -> list[str]:
    kinds = ", ".join(found.answered_kinds) or "none"
    lines = _scores("Kind", found.kinds)
    return [*lines, "", f"Kinds that the full model answers (at least {ANSWERED}): {kinds}."]


def _means(found: Figures) -> dict[str, Group]:
    groups = {"Mean of all": found.mean}
    if found.answered is not None:
        groups["Mean, answered kinds"] = found.answered
    return groups


def _choices(found: Figures) -> list[str]:
    groups = _means(found)
    rows = [[row, *(cell(group.scores[row]) for group in groups.values())] for row in ROWS]
    return markdown_table(("Read by the LLM", *groups), rows, texts=1)


def _differences(found: Figures) -> list[str]:
    groups = _means(found)
    rows = [
        [pair, *(cell(group.differences[pair]) for group in groups.values())]
        for pair in found.mean.differences
    ]
    return markdown_table(("Difference", *groups), rows, texts=1)


def _captions(found: Figures) -> list[str]:
    groups = {"all": found.captions, **found.captions_by_kind}
    headings = ["Kind", "Questions"]
    headings += [f"{what}, {writer}" for what in ("named", "truly") for writer in WRITERS]
    headings += [f"phrases true, {writer}" for writer in (CHOSEN, FIRST)]
    rows = [
        [
            kind,
            str(said.questions),
            *(cell(said.named[writer]) for writer in WRITERS),
            *(cell(said.named_truly[writer]) for writer in WRITERS),
            *(cell(said.phrases_true[writer]) for writer in (CHOSEN, FIRST)),
        ]
        for kind, said in groups.items()
        if said is not None
    ]
    return markdown_table(headings, rows, texts=1)


def _patches(found: Figures) -> list[str]:
    rows = [
        [
            f"{rule}: {group}",
            cell(found.patches[rule].per_image[group]),
            cell(found.patches[rule].on_any[group]),
            cell(found.patches[rule].on_subject[group]),
        ]
        for rule in RULES
        for group in GROUPS
    ]
    lines = markdown_table(
        ("Patches", "An image", "on any object", "on the object asked for"), rows, texts=1
    )
    seen = [f"{rule} {cell(found.patches[rule].seen)}" for rule in RULES]
    return [*lines, "", f"At least one kept patch on the object asked for: {', '.join(seen)}."]
