"""The numbers of a measurement, each with its 95% bootstrap interval.

Within a benchmark, or a kind of question, all numbers are averaged over the same resampled images:
differences and shares are paired. The units of resampling are images with all their questions,
whose answers are not independent. A mean over benchmarks weighs each the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from llava.eval.benchmarks.registry import BENCHMARKS
from llava.eval.report.statistics import (
    SEED,
    Sampled,
    average,
    difference,
    ratio,
    sampled_means,
)
from llava.mini.measuring.passes import FULL, PRUNED, RULES, TRUE, Measured
from llava.mini.measuring.patches import GROUPS, KEPT, count_kept, patches_on
from llava.mini.measuring.questions import count_phrases, names, names_truly
from llava.mini.measuring.scores import ACCM, BEST, FIRST, RANDOM, ROWS
from llava.model.compensation.caption_writer import NUM_CANDIDATES

Column = TypeVar("Column", bound=Hashable)

ANSWERED = 0.8  # from this score on, a kind of question counts as answered by the full model
# The first minus the second.
PAIRS = (
    *((FULL, PRUNED), (ACCM, PRUNED), (ACCM, FIRST), (ACCM, RANDOM)),
    *((ACCM, BEST), (ACCM, TRUE), (TRUE, PRUNED)),
)
CHOSEN, ANY = "chosen", "any candidate"
WRITERS = (CHOSEN, FIRST, RANDOM, ANY)
# Which draws belong together: the first part of a seed.
_BENCHMARK, _KIND, _ANSWERED, _CAPTION, _PATCH = range(5)


@dataclass(frozen=True)
class Result:
    """A question with its scores by ROWS."""

    measured: Measured
    scores: dict[str, float]

    @property
    def kind(self) -> str:
        """The kind of the question."""
        return self.measured.asked.kind


@dataclass(frozen=True)
class Group:
    """The mean scores of some questions.

    Attributes:
        questions: their number.
        scores: by ROWS.
        differences: by "first - second" of PAIRS.
        recovery: (accm - pruned) / (full - pruned); None where pruning loses nothing.
    """

    questions: int
    scores: dict[str, Sampled]
    differences: dict[str, Sampled]
    recovery: Sampled | None


@dataclass(frozen=True)
class Captions:
    """The rates at which captions name the object asked for.

    Attributes:
        questions: number of those that ask for a single object.
        named: by WRITERS, the rate at which it is named.
        named_truly: by WRITERS, the rate at which it is named with its true size and place.
        phrases_true: by CHOSEN and FIRST, the share of all described objects that are true.
    """

    questions: int
    named: dict[str, Sampled]
    named_truly: dict[str, Sampled]
    phrases_true: dict[str, Sampled | None]


@dataclass(frozen=True)
class Patches:
    """The positions of kept patches, in questions that ask for a single object.

    Attributes:
        per_image: by GROUPS, the number of patches.
        on_any: by GROUPS, the share of them on an object.
        on_subject: by GROUPS, the share of them on the object asked for.
        seen: the rate at which at least one kept patch is on it.
    """

    per_image: dict[str, Sampled]
    on_any: dict[str, Sampled | None]
    on_subject: dict[str, Sampled | None]
    seen: Sampled


@dataclass(frozen=True)
class Figures:
    """All numbers of a measurement.

    Attributes:
        mean: over the benchmarks.
        answered_kinds: kinds that the full model answers; see ANSWERED.
        answered: the mean over the benchmarks with questions of these kinds alone; None where
            there are none.
        benchmarks, kinds: the numbers of each.
        captions, captions_by_kind: None and empty where no question asks for a single object.
        patches: by RULES.
    """

    mean: Group
    answered_kinds: list[str]
    answered: Group | None
    benchmarks: dict[str, Group]
    kinds: dict[str, Group]
    captions: Captions | None
    captions_by_kind: dict[str, Captions]
    patches: dict[str, Patches]


def figures(results: Sequence[Result], num_patches: int) -> Figures:
    """Computes all numbers of a measurement.

    Args:
        results: all questions, at least one.
        num_patches: N of an image.
    """
    kinds = _groups(results, lambda result: result.kind)
    by_kind = {
        kind: _group([members], [(SEED, _KIND, place)])
        for place, (kind, members) in enumerate(kinds.items())
    }
    answered = [kind for kind, group in by_kind.items() if group.scores[FULL].value >= ANSWERED]
    able = [result for result in results if result.kind in answered]
    about = [result for result in results if result.measured.asked.subject is not None]
    return Figures(
        mean=_mean_group(results, _BENCHMARK),
        answered_kinds=answered,
        answered=_mean_group(able, _ANSWERED) if able else None,
        benchmarks={
            benchmark: _mean_group(members, _BENCHMARK)
            for benchmark, members in _by_benchmark(results).items()
        },
        kinds=by_kind,
        captions=_captions(about) if about else None,
        captions_by_kind={
            kind: _captions(members)
            for kind, members in _groups(about, lambda result: result.kind).items()
        },
        patches={rule: _patches(about, rule, num_patches) for rule in RULES} if about else {},
    )


def to_json(value: Any) -> Any:
    """Converts figures to JSON; missing numbers and infinite interval ends become null."""
    if isinstance(value, Sampled):
        ends = {"value": value.value, "low": value.low, "high": value.high}
        return {name: end if math.isfinite(end) else None for name, end in ends.items()}
    if dataclasses.is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(part) for name, part in value.items()}
    return value


# Scores ------------------------------------------------------------------------------------------


def _groups(results: Sequence[Result], key: Callable[[Result], str]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return dict(sorted(groups.items()))


def _by_benchmark(results: Sequence[Result]) -> dict[str, list[Result]]:
    found = _groups(results, lambda result: result.measured.asked.benchmark)
    return {benchmark: found[benchmark] for benchmark in BENCHMARKS if benchmark in found}


def _mean_group(results: Sequence[Result], part: int) -> Group:
    """Returns the mean over the benchmarks of these questions."""
    members = _by_benchmark(results)
    # Each benchmark has its own draws: a mean over them is one of independent numbers.
    return _group(list(members.values()), [(SEED, part, BENCHMARKS.index(b)) for b in members])


def _group(parts: Sequence[Sequence[Result]], seeds: Sequence[tuple[int, ...]]) -> Group:
    """Returns the mean over parts, each of which weighs the same."""
    drawn = [_means(part, [r.scores for r in part], seed) for part, seed in zip(parts, seeds)]
    scores = {row: average([means[row] for means in drawn]) for row in ROWS}
    differences = {f"{a} - {b}": difference(scores[a], scores[b]) for a, b in PAIRS}
    gain, loss = difference(scores[ACCM], scores[PRUNED]), difference(scores[FULL], scores[PRUNED])
    return Group(sum(len(part) for part in parts), scores, differences, ratio(gain, loss))


def _means(
    results: Sequence[Result], rows: Sequence[Mapping[str, float]], seed: Sequence[int]
) -> dict[str, Sampled]:
    return sampled_by_image([r.measured.asked.question.image for r in results], rows, seed)


def sampled_by_image(
    images: Sequence[Path | bytes],
    rows: Sequence[Mapping[Column, float]],
    seed: int | Sequence[int],
) -> dict[Column, Sampled]:
    """Returns the mean of each column of a table, over all questions and over drawn images.

    Args:
        images: of each question; an image is drawn with all its questions.
        rows: of each question, all with the same columns.
        seed: of the draws.
    """
    numbers: dict[Path | bytes, int] = {}
    places = [numbers.setdefault(image, len(numbers)) for image in images]
    columns = list(rows[0])
    sums = np.zeros((1 + len(columns), len(numbers)))
    np.add.at(sums[0], places, 1)
    for of_images, column in zip(sums[1:], columns):
        np.add.at(of_images, places, [row[column] for row in rows])
    questions, *totals = sampled_means(sums, seed)
    means = {column: ratio(total, questions) for column, total in zip(columns, totals)}
    return {column: mean for column, mean in means.items() if mean is not None}


# Captions and patches ----------------------------------------------------------------------------


def _captions(results: Sequence[Result]) -> Captions:
    named = [_by_writer(r.measured, lambda text, a: names(text, a.subject)) for r in results]
    truly = [_by_writer(r.measured, names_truly) for r in results]
    phrases = [_phrases(result.measured) for result in results]
    drawn = _means(results, phrases, (SEED, _CAPTION))
    return Captions(
        questions=len(results),
        named=_means(results, named, (SEED, _CAPTION)),
        named_truly=_means(results, truly, (SEED, _CAPTION)),
        phrases_true={
            writer: ratio(drawn[f"{writer}, true"], drawn[writer]) for writer in (CHOSEN, FIRST)
        },
    )


def _by_writer(measured: Measured, says: Callable[..., bool]) -> dict[str, float]:
    """Returns for each of WRITERS the rate at which its captions meet a test."""
    each = [float(says(caption, measured.asked)) for caption in measured.captions]
    return {
        CHOSEN: each[measured.chosen],
        FIRST: each[0],
        RANDOM: sum(each[:NUM_CANDIDATES]) / NUM_CANDIDATES,
        ANY: max(each),
    }


def _phrases(measured: Measured) -> dict[str, float]:
    counts: dict[str, float] = {}
    for writer, place in ((CHOSEN, measured.chosen), (FIRST, 0)):
        described, true = count_phrases(measured.captions[place], measured.asked)
        counts |= {writer: described, f"{writer}, true": true}
    return counts


def _patches(results: Sequence[Result], rule: str, num_patches: int) -> Patches:
    rows = [_count_patches(result.measured, rule, num_patches) for result in results]
    drawn = _means(results, rows, (SEED, _PATCH))
    return Patches(
        per_image={group: drawn[group] for group in GROUPS},
        on_any={group: ratio(drawn[f"{group}, any"], drawn[group]) for group in GROUPS},
        on_subject={group: ratio(drawn[f"{group}, subject"], drawn[group]) for group in GROUPS},
        seen=drawn["seen"],
    )


def _count_patches(measured: Measured, rule: str, num_patches: int) -> dict[str, float]:
    asked, kept = measured.asked, measured.kept[rule]
    on_any = patches_on(asked.things, num_patches)
    subject = [] if asked.subject_thing is None else [asked.subject_thing]
    on_subject = patches_on(subject, num_patches)
    row: dict[str, float] = {}
    counts = (count_kept(kept, on, num_patches) for on in (on_any, on_subject))
    for name, by_group in zip(("any", "subject"), counts):
        for group, (size, lying) in by_group.items():
            row |= {group: size, f"{group}, {name}": lying}
    return row | {"seen": float(row[f"{KEPT}, subject"] > 0)}
