"""The rows of the table: each run against the full-token run and the run without an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from llava.eval.cost import Cost
from llava.eval.report.runs import BENCHMARKS, FLOOR, FULL, Run, budget_key, budget_text
from llava.eval.report.statistics import SEED, Sampled, average, difference, ratio, sampled_means

LENIENT = "(lenient)"
LIMITED = "(limited)"
Value = TypeVar("Value")
_Member = tuple[Run, Sampled]  # a run and its mean score


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        benchmark: one of BENCHMARKS, or None for the mean over all present ones.
        model: name of the model.
        method: as in Run.
        tokens, share: as in Run; of a mean, the mean of the tokens.
        num_patches: as in Run.
        questions: number of questions.
        unanswered: number of questions without an answer, which count as wrong.
        is_limited: whether only the first questions were asked.
        mean: mean score of the questions; None for a mean over benchmarks, whose scores have
            different units.
        of_full_main: main number as a share of the full-token run's; None if there is none.
        of_full: the same share by mean scores.
        recovered: place of the mean score between that without an image (0) and that of the
            full-token run (1); None if one of the two is missing, or both are equal.
        seconds: time of a process per question; None if it is not known.
        run: the result file; None for a mean.
        cost: what a question costs; of a mean, on the first benchmark where it was measured.
    """

    benchmark: str | None
    model: str
    method: str
    tokens: int | None
    num_patches: int | None
    questions: int
    unanswered: int
    is_limited: bool
    mean: Sampled | None
    of_full_main: float | None
    of_full: Sampled | None
    recovered: Sampled | None
    seconds: float | None
    run: Run | None
    cost: Cost | None = None
    share: str | None = None

    @property
    def main_value(self) -> float | None:
        """The main number of the run; None for a mean."""
        return None if self.run is None else self.run.main_value

    @property
    def title(self) -> str:
        """The benchmark's name."""
        return "Mean of all" if self.benchmark is None else BENCHMARKS[self.benchmark]

    @property
    def marked_method(self) -> str:
        """The method, marked if its scores are limited or lenient, as notes explain."""
        marks = [LIMITED] * self.is_limited + [LENIENT] * bool(self.unanswered)
        return " ".join([self.method, *marks])


@dataclass(frozen=True)
class Comparison:
    """All rows, and notes on what is missing in them."""

    rows: list[Row]
    mean_rows: list[Row]
    notes: list[str]


def compare(runs: Sequence[Run], seed: int = SEED) -> Comparison:
    """Compares runs, sorted as read_runs sorts them."""
    rows: list[Row] = []
    notes: list[str] = []
    for benchmark in dict.fromkeys(run.benchmark for run in runs):
        members = [run for run in runs if run.benchmark == benchmark]
        keys = list(members[0].scores)
        scores = np.array([[run.scores[key] for key in keys] for run in members])
        # Each benchmark has its own draws: a mean over benchmarks is one of independent numbers.
        means = sampled_means(scores, (seed, list(BENCHMARKS).index(benchmark)))
        for model in dict.fromkeys(run.model for run in members):
            of_model = [(run, mean) for run, mean in zip(members, means) if run.model == model]
            full, floor = _find(of_model, FULL), _find(of_model, FLOOR)
            rows += [_row(run, mean, full, floor) for run, mean in of_model]
            notes += _missing_notes(of_model[0][0].title, full, floor)
    mean_rows, left_out = _mean_rows(rows)
    marks = _limited_notes(runs) + _lenient_notes(runs)
    return Comparison(rows, mean_rows, marks + notes + left_out + _how(runs))


def _limited_notes(runs: Sequence[Run]) -> list[str]:
    """Returns notes on questions that were not asked; all runs of a benchmark have one limit."""
    limits: dict[int, list[str]] = {}
    for benchmark, limit in dict.fromkeys((run.benchmark, run.limit) for run in runs):
        if limit is not None:
            limits.setdefault(limit, []).append(BENCHMARKS[benchmark])
    return [
        f"{', '.join(names)} {LIMITED}: only the first {limit} questions were asked, and those "
        "that are scored together with one of them (--limit)."
        for limit, names in limits.items()
    ]


def _lenient_notes(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.title}, {run.label} {LENIENT}: {run.unanswered} of {len(run.scores)} questions have "
        "no answer and count as wrong (--allow-missing)."
        for run in runs
        if run.unanswered
    ]


def _how(runs: Sequence[Run]) -> list[str]:
    """Returns notes on number format and device; they name the runs if these differ."""
    ways: dict[tuple[str | None, str | None], list[str]] = {}
    for run in runs:
        ways.setdefault((run.dtype, run.device), []).append(f"{run.title}, {run.label}")
    if set(ways) == {(None, None)}:
        return []
    return [
        f"Answered in {dtype or 'unknown numbers'} on {device or 'an unknown device'}: "
        + (f"{'; '.join(members)}." if len(ways) > 1 else "all runs.")
        for (dtype, device), members in ways.items()
    ]


def _find(members: Sequence[_Member], method: str) -> _Member | None:
    return next((member for member in members if member[0].method == method), None)


def _row(run: Run, mean: Sampled, full: _Member | None, floor: _Member | None) -> Row:
    """Returns the row of a run, compared with the full-token run and the floor of its model."""
    recovered = None
    if full is not None and floor is not None:
        recovered = ratio(difference(mean, floor[1]), difference(full[1], floor[1]))
    of_full_main = None
    if full is not None and full[0].main_value > 0:
        of_full_main = run.main_value / full[0].main_value
    return Row(
        benchmark=run.benchmark,
        model=run.model,
        method=run.method,
        tokens=run.tokens,
        num_patches=run.num_patches,
        questions=len(run.scores),
        unanswered=run.unanswered,
        is_limited=run.limit is not None,
        mean=mean,
        of_full_main=of_full_main,
        of_full=None if full is None else ratio(mean, full[1]),
        recovered=recovered,
        seconds=run.made.seconds,
        run=run,
        cost=run.cost,
        share=run.share,
    )


def _missing_notes(where: str, full: _Member | None, floor: _Member | None) -> list[str]:
    """Returns notes on missing comparisons: one of the two runs is absent, or scores forbid it."""
    notes = []
    if full is None:
        notes.append(f"{where}: there is no full-token run, so nothing is compared with it.")
    elif full[0].main_value <= 0 or full[1].value <= 0:
        notes.append(f"{where}: the full-token run scores nothing, so there is no per cent of it.")
    if floor is None:
        notes.append(f"{where}: there is no run without an image, so there is no floor.")
    elif full is not None:
        way = difference(full[1], floor[1])
        if way.value <= 0:
            notes.append(f"{where}: the full-token run is not above the floor: no way to recover.")
        elif (way.draws <= 0).any():
            notes.append(
                f"{where}: in some draws the full-token run is not above the floor; they count as "
                "infinitely low and high in the intervals of the way."
            )
    return notes


def _mean_rows(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Returns rows of models, methods and budgets with all benchmarks, and notes on the others."""
    benchmarks = list(dict.fromkeys(row.benchmark for row in rows if row.benchmark))
    if len(benchmarks) < 2:
        return [], []
    cells: dict[tuple, list[Row]] = {}
    for row in rows:
        cells.setdefault((row.model, row.method, budget_key(row)), []).append(row)
    means, notes = [], []
    for members in cells.values():
        if len(members) == len(benchmarks):
            means.append(_mean_row(members))
            continue
        there = {row.benchmark for row in members}
        lacking = ", ".join(BENCHMARKS[b] for b in benchmarks if b not in there)
        budget = "" if members[0].tokens is None else f", {budget_text(members[0])} tokens"
        where = f"{members[0].model}, {members[0].method}{budget}"
        notes.append(f"{where}: not among the means, for it lacks {lacking}.")
    return means, notes


def _mean_row(members: Sequence[Row]) -> Row:
    total = sum(row.questions for row in members)
    main = _of_all(members, lambda row: row.of_full_main)
    full = _of_all(members, lambda row: row.of_full)
    recovered = _of_all(members, lambda row: row.recovered)
    seconds = _of_all(members, lambda row: row.seconds and row.seconds * row.questions)
    tokens = [row.tokens for row in members if row.tokens is not None]
    return replace(
        members[0],
        benchmark=None,
        tokens=round(sum(tokens) / len(tokens)) if tokens else None,
        questions=total,
        unanswered=sum(row.unanswered for row in members),
        is_limited=any(row.is_limited for row in members),
        mean=None,
        of_full_main=sum(main) / len(main) if main else None,
        of_full=average(full) if full else None,
        recovered=average(recovered) if recovered else None,
        seconds=sum(seconds) / total if seconds else None,
        run=None,
        cost=next((row.cost for row in members if row.cost is not None), None),
    )


def _of_all(rows: Sequence[Row], of: Callable[[Row], Value | None]) -> list[Value]:
    """Returns a value of each row; nothing at all if one row lacks it."""
    values = [value for row in rows if (value := of(row)) is not None]
    return values if len(values) == len(rows) else []
