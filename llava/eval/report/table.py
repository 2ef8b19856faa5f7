"""The Markdown tables for people: one for the terminal, and those of report.md."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from llava.eval.report import made, methods, published, references, standing, units
from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.rendering import render
from llava.eval.report.runs import BENCHMARKS, Run
from llava.eval.report.units import OWN, percent, tokens_text
from llava.markdown import escape, markdown_table

# What templates take from other modules.
WORDS: dict[str, object] = {
    "BENCHMARKS": BENCHMARKS,
    "made": made,
    "methods": methods,
    "published": published,
    "references": references,
    "standing": standing,
    "units": units,
}
MOST_LINES = 20  # lines of the table in the terminal, its head included


def by_benchmark(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups rows by benchmark and model."""
    groups = itertools.groupby(rows, key=lambda row: (row.benchmark, row.model))
    return [list(group) for _, group in groups]


def overview(comparison: Comparison) -> list[list[str]]:
    """Returns the head and the rows of a table with one row per model, method and budget.

    It has the shares of full (the mean over all benchmarks, if there are several) and each
    benchmark's own number.
    """
    benchmarks = list(dict.fromkeys(row.benchmark for row in comparison.rows if row.benchmark))
    cells: dict[tuple, dict[str | None, Row]] = {}
    for row in comparison.rows + comparison.mean_rows:
        cells.setdefault((row.model, row.method, row.tokens), {})[row.benchmark] = row
    several = "Mean of full, %" if len(benchmarks) > 1 else "Of full, %"
    own = [OWN[name].short for name in benchmarks]
    heads = ["Model", "Method", "Tokens", several, "Floor to full, %", *own]
    shared = None if len(benchmarks) > 1 else benchmarks[0]
    return [heads, *(_overview_row(members, benchmarks, shared) for members in cells.values())]


def _overview_row(
    members: dict[str | None, Row], benchmarks: Sequence[str], shared: str | None
) -> list[str]:
    first = next(iter(members.values()))
    marked = max((row.marked_method for row in members.values()), key=len)
    mean = members.get(shared)
    own = [
        OWN[name].text(members[name].main_value if name in members else None) for name in benchmarks
    ]
    return [
        first.model,
        marked,
        tokens_text(first),
        percent(None if mean is None else mean.of_full),
        percent(None if mean is None else mean.recovered),
        *own,
    ]


def terminal_table(comparison: Comparison) -> str:
    """Returns the overview cut to MOST_LINES, the notes and the result in a sentence."""
    heads, *rows = overview(comparison)
    lines = markdown_table(heads, rows[: MOST_LINES - 2], texts=2, padded=True)
    if len(rows) > MOST_LINES - 2:
        lines += ["", f"{len(rows) - MOST_LINES + 2} more rows: report.md (--report)"]
    notes = [f"- {escape(note)}" for note in comparison.notes]
    sentence = methods.result_sentence(comparison)
    parts = ["\n".join(lines), "\n".join(notes), f"{sentence}." if sentence else ""]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_report(comparison: Comparison, runs: Sequence[Run]) -> str:
    """Returns report.md: the result, all runs in one table, each benchmark, each budget."""
    heads, *rows = overview(comparison)
    return render(
        "report.md",
        sentence=methods.result_sentence(comparison),
        overview="\n".join(markdown_table(heads, rows, texts=2)),
        comparison=comparison,
        runs=runs,
        tables=by_benchmark(comparison.rows),
        budgets=standing.budgets(comparison),
        families=published.set_beside(runs),
        **WORDS,
    )


def reference_table(compared: Sequence[references.Compared]) -> str:
    """Returns the references under their own heading; empty if there are none."""
    if not compared:
        return ""
    lines = markdown_table(references.HEADINGS, [one.cells() for one in compared], texts=5)
    explanation = references.explanation(compared)
    return f"\n## {references.TITLE}\n\n" + "\n".join(lines) + f"\n\n{explanation}\n"
