"""The methods of each budget as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from llava.eval.report.own import OWN
from llava.eval.report.runs import BENCHMARKS
from llava.eval.report.standing import COST, EXPLANATION, TITLE, Budget
from llava.eval.report.statistics import Sampled
from llava.eval.report.table import percent
from llava.eval.report.units import (
    bytes_text,
    operations_text,
    points_text,
    seconds_text,
    spread_text,
)
from llava.markdown import escape, markdown_table

_SCORES = ("Of full, %", "Floor to full, %", "To ACCM, points", "To the best, points")
_COSTS = ("Tokens a layer", "Operations, formula", "counted", "A question")


def markdown_section(budgets: Sequence[Budget]) -> str:
    """Returns the section of report.md; empty if there are no budgets."""
    if not budgets:
        return ""
    lines = ["", f"## {TITLE}"]
    for budget in budgets:
        what = f"mean of {len(budget.benchmarks)} benchmarks"
        if len(budget.benchmarks) == 1:
            what = BENCHMARKS[budget.benchmarks[0]]
        lines += ["", f"### {budget.title}: {escape(budget.model)}, {what}", ""]
        lines += _scores(budget)
        if budget.has_costs:
            lines += ["", *_costs(budget)]
    lines += ["", EXPLANATION]
    if any(budget.has_costs for budget in budgets):
        lines += ["", COST]
    return "\n".join(lines) + "\n"


def _scores(budget: Budget) -> list[str]:
    own = budget.benchmarks if len(budget.benchmarks) > 1 else []
    heads = ["Method", *_SCORES, *(OWN[name].short for name in own)]
    rows = []
    for one in [*budget.standings, *budget.limits]:
        numbers = [one.own[name].main_value if name in one.own else None for name in own]
        is_best = one in budget.standings and one.is_best
        rows.append(
            [
                *_bold([one.row.marked_method, percent(one.row.of_full)], is_best),
                percent(one.row.recovered),
                _points(one.to_accm),
                _points(one.to_best),
                *(OWN[name].text(number) for name, number in zip(own, numbers)),
            ]
        )
    return _table(heads, rows)


def _costs(budget: Budget) -> list[str]:
    heads = ["Method", *_COSTS, *budget.stages, "Peak memory"]
    rows = []
    for one in [*budget.standings, *budget.limits]:
        if (cost := one.row.cost) is not None:
            tokens = f"{cost.tokens:.1f}" + (f" ({cost.schedule})" if cost.schedule else "")
            operations = [operations_text(cost.operations), operations_text(cost.counted)]
            stages = [seconds_text(cost.stages.get(stage)) for stage in budget.stages]
            times = [f"{seconds_text(cost.seconds)} {spread_text(cost)}", *stages]
            peak = bytes_text(cost.peak_bytes)
            rows.append([one.row.marked_method, tokens, *operations, *times, peak])
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table whose first column is text."""
    return markdown_table(list(heads), [list(row) for row in rows], texts=1)


def _bold(cells: Sequence[str], is_bold: bool) -> list[str]:
    return [f"**{cell}**" if is_bold else cell for cell in cells]


def _points(sampled: Sampled | None) -> str:
    return " ".join(filter(None, points_text(sampled)))
