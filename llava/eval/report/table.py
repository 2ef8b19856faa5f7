"""The Markdown tables for people: one for the terminal, and those of report.md."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.made import EXPLANATION, markdown_section, seconds_text
from llava.eval.report.methods import explained, result_sentence
from llava.eval.report.own import OWN, score_heading
from llava.eval.report.references import HEADINGS as REFERENCE_HEADINGS
from llava.eval.report.references import TITLE, Compared, explanation
from llava.eval.report.runs import Run
from llava.eval.report.statistics import Sampled
from llava.markdown import escape, markdown_table

MOST_LINES = 20  # lines of the table in the terminal, its head included


def percent(sampled: Sampled | None) -> str:
    """Returns a share in per cent with its interval, unless that has no width."""
    if sampled is None:
        return "-"
    number = f"{100 * sampled.value:.1f}"
    return number if sampled.low == sampled.high else f"{number} {interval(sampled)}"


def interval(sampled: Sampled) -> str:
    """Returns an interval in per cent; an infinite end is called none."""
    ends = [
        f"{100 * end:.1f}" if math.isfinite(end) else "none" for end in (sampled.low, sampled.high)
    ]
    return f"[{', '.join(ends)}]"


def by_benchmark(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups rows by benchmark and model."""
    groups = itertools.groupby(rows, key=lambda row: (row.benchmark, row.model))
    return [list(group) for _, group in groups]


def tokens_text(row: Row) -> str:
    """Returns the number of visual tokens; a dash if it is not known."""
    return "-" if row.tokens is None else str(row.tokens)


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
    sentence = result_sentence(comparison)
    parts = ["\n".join(lines), "\n".join(notes), f"{sentence}." if sentence else ""]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_report(comparison: Comparison, runs: Sequence[Run]) -> str:
    """Returns report.md: the result, all runs in one table, then each benchmark."""
    sentence = result_sentence(comparison)
    methods = explained([row.method for row in comparison.rows])
    lines = ["# Evaluation report", ""]
    lines += [f"**{sentence}.**", ""] if sentence else []
    heads, *table = overview(comparison)
    lines += [*markdown_table(heads, table, texts=2), ""]
    lines += [f"- {escape(name)}: {line}" for name, line in methods]
    for rows in by_benchmark(comparison.rows):
        title = f"{rows[0].title}: {rows[0].model}, {rows[0].questions:,} questions"
        lines += ["", f"## {escape(title)}", "", *_benchmark_table(rows[0].benchmark or "", rows)]
    notes = [f"- {escape(note)}" for note in comparison.notes]
    made = [escape(line) for line in markdown_section(runs)]
    lines += ["", *made, *notes, "", EXPLANATION]
    return "\n".join(lines) + "\n"


def _benchmark_table(benchmark: str, rows: Sequence[Row]) -> list[str]:
    own = OWN[benchmark]
    heads = ["Method", "Tokens", own.heading, score_heading(benchmark), "Of full, %"]
    heads += ["Floor to full, %", "s a question"]
    values = [
        [
            row.marked_method,
            tokens_text(row),
            own.text(row.main_value),
            percent(row.mean),
            percent(row.of_full),
            percent(row.recovered),
            seconds_text(row.seconds),
        ]
        for row in rows
    ]
    return markdown_table(heads, values, texts=1)


def reference_table(compared: Sequence[Compared]) -> str:
    """Returns the references under their own heading; empty if there are none."""
    if not compared:
        return ""
    lines = markdown_table(REFERENCE_HEADINGS, [one.cells() for one in compared], texts=5)
    return f"\n## {TITLE}\n\n" + "\n".join(lines) + f"\n\n{explanation(compared)}\n"
