"""The tables of the terminal, of report.md and of report.csv, whose new columns come at the end."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Sequence

from llava.eval.cost import Cost
from llava.eval.report import made, methods, published, references, standing, units
from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.rendering import render
from llava.eval.report.runs import BENCHMARKS, Run, budget_key
from llava.eval.report.standing import differences
from llava.eval.report.statistics import Sampled
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
        cells.setdefault((row.model, row.method, budget_key(row)), {})[row.benchmark] = row
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


def csv_table(comparison: Comparison) -> str:
    """Returns the rows with all digits; missing values are empty cells."""
    rows = comparison.rows + comparison.mean_rows
    less = differences(rows)
    stages = dict.fromkeys(stage for row in rows if row.cost for stage in row.cost.stages)
    records = []
    for row in rows:
        to_accm, to_best = less.get(id(row), (None, None))
        points = _percent("points_to_accm", to_accm) | _percent("points_to_best", to_best)
        records.append(_record(row) | points | _cost(row.cost, list(stages)))
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _record(row: Row) -> dict:
    run, share = row.run, row.of_full_main
    return {
        "benchmark": row.benchmark or "mean",
        "model": row.model,
        "method": row.method,
        "visual_tokens": row.tokens,
        "questions": row.questions,
        "main_name": run and run.main_name,
        "main_value": run and run.main_value,
        **_percent("mean_percent", row.mean),
        "main_percent_of_full": None if share is None else 100 * share,
        **_percent("mean_percent_of_full", row.of_full),
        **_percent("floor_to_full_percent", row.recovered),
        "unanswered": row.unanswered,
        "limited": int(row.is_limited),
        "own_name": run and OWN[run.benchmark].heading,
        "own_value": run and OWN[run.benchmark].times * run.main_value,
        "seconds_per_question": row.seconds,
        "date": run and run.made.date,
        "machine": run and run.made.machine,
        "versions": run and run.made.versions,
        "settings": run and run.made.settings,
        "result_file": run and run.path,
        "answers_file": run and run.answers_file,
    }


def _cost(cost: Cost | None, stages: Sequence[str]) -> dict:
    """Returns the cost of a question, if it was measured."""
    return {
        "tokens_read_by_a_layer": cost and cost.tokens,
        "schedule": cost and cost.schedule,
        "operations_by_formula": cost and cost.operations,
        "operations_counted": cost and cost.counted,
        "seconds_alone": cost and cost.seconds,
        "seconds_spread": cost and cost.spread,
        **{f"seconds_{stage}": cost and cost.stages.get(stage) for stage in stages},
        "peak_bytes": cost and cost.peak_bytes,
    }


def _percent(name: str, sampled: Sampled | None) -> dict[str, float | None]:
    """Returns a number and the ends of its interval; values that are not finite stay empty."""
    names = (name, f"{name}_low", f"{name}_high")
    if sampled is None:
        return dict.fromkeys(names)
    values = [100 * value for value in (sampled.value, sampled.low, sampled.high)]
    return {n: value if math.isfinite(value) else None for n, value in zip(names, values)}
