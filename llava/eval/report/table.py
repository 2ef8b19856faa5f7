"""The table as Markdown, for people, and as CSV, for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.references import HEADINGS as REFERENCE_HEADINGS
from llava.eval.report.references import TITLE, Compared, explanation
from llava.eval.report.statistics import DRAWS, Sampled

HEADINGS = (
    "Benchmark",
    "Model",
    "Method",
    "Tokens",
    "Main number",
    "Mean score, %",
    "Main number, % of full",
    "Mean score, % of full",
    "Floor to full, %",
)
_CSV_COLUMNS = (
    "benchmark model method visual_tokens questions main_name main_value mean_percent "
    "mean_percent_low mean_percent_high main_percent_of_full mean_percent_of_full "
    "mean_percent_of_full_low mean_percent_of_full_high floor_to_full_percent "
    "floor_to_full_percent_low floor_to_full_percent_high unanswered limited"
).split()
EXPLANATION = (
    "Mean score: the mean of what each question scored, which for yes-no and multiple-choice "
    "benchmarks is the share of right answers. Main number: the benchmark's own. Floor to full: "
    "how far the mean score has come from that of the run without an image (0%) to that of the run "
    f"with all visual tokens (100%). In brackets 95% bootstrap intervals: {DRAWS} times the "
    "questions were drawn with replacement, one by one, the same draws for all runs of a "
    "benchmark, so that shares are paired. They hold the model fixed and speak of the questions "
    "alone."
)


def main_number(value: float) -> str:
    """A main number with about four digits."""
    size = abs(value)
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 10 else f"{value:.4f}"


def percent(sampled: Sampled | None) -> str:
    """A share in per cent with its interval, which is left out where it has no width."""
    if sampled is None:
        return "-"
    low, high = sampled.low, sampled.high
    return f"{100 * sampled.value:.1f}" + ("" if low == high else f" [{bound(low)}, {bound(high)}]")


def bound(value: float) -> str:
    """An end of an interval in per cent."""
    return f"{100 * value:.1f}" if math.isfinite(value) else "none"


def cells(row: Row) -> tuple[str, ...]:
    """A row under HEADINGS."""
    main = "-" if row.main_value is None else f"{row.main_name} {main_number(row.main_value)}"
    return (
        row.title,
        row.model,
        row.marked_method,
        "-" if row.tokens is None else str(row.tokens),
        main,
        percent(row.mean),
        "-" if row.of_full_main is None else f"{100 * row.of_full_main:.1f}",
        percent(row.of_full),
        percent(row.recovered),
    )


def markdown_table(comparison: Comparison) -> str:
    """The rows, and under them the notes."""
    aligned = ["---"] * 3 + ["---:"] * (len(HEADINGS) - 3)
    rows = [cells(row) for row in comparison.rows + comparison.mean_rows]
    lines = [_markdown_line(line) for line in (HEADINGS, aligned, *rows)]
    notes = [f"- {_escape_markdown(note)}" for note in comparison.notes]
    return "\n".join(lines + ([""] + notes if notes else [])) + "\n"


def markdown_report(comparison: Comparison) -> str:
    """The table under a heading, with what its columns mean."""
    return f"# Evaluation report\n\n{markdown_table(comparison)}\n{EXPLANATION}\n"


def reference_table(compared: Sequence[Compared]) -> str:
    """The references under a heading of their own; empty where there are none."""
    if not compared:
        return ""
    aligned = ["---"] * 5 + ["---:"] * 2 + ["---"]
    rows = [one.cells() for one in compared]
    lines = [_markdown_line(line) for line in (REFERENCE_HEADINGS, aligned, *rows)]
    return f"\n## {TITLE}\n\n" + "\n".join(lines) + f"\n\n{explanation(compared)}\n"


def _markdown_line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(_escape_markdown(text) for text in texts) + " |"


def _escape_markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def csv_table(comparison: Comparison) -> str:
    """The rows with all digits; what is not there is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row in comparison.rows + comparison.mean_rows:
        share = None if row.of_full_main is None else 100 * row.of_full_main
        start = [row.benchmark or "mean", row.model, row.method, row.tokens, row.questions]
        numbers = [*_numbers(row.mean), share, *_numbers(row.of_full), *_numbers(row.recovered)]
        writer.writerow(
            [*start, row.main_name, row.main_value, *numbers, row.unanswered, int(row.is_limited)]
        )
    return text.getvalue()


def _numbers(sampled: Sampled | None) -> list[float | None]:
    if sampled is None:
        return [None, None, None]
    values = [100 * value for value in (sampled.value, sampled.low, sampled.high)]
    return [value if math.isfinite(value) else None for value in values]
