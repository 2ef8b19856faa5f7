"""The rows as CSV, for programs: new columns come last."""

from __future__ import annotations

import csv
import io
import math

from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.own import OWN
from llava.eval.report.statistics import Sampled

_COLUMNS = (
    "benchmark model method visual_tokens questions main_name main_value mean_percent "
    "mean_percent_low mean_percent_high main_percent_of_full mean_percent_of_full "
    "mean_percent_of_full_low mean_percent_of_full_high floor_to_full_percent "
    "floor_to_full_percent_low floor_to_full_percent_high unanswered limited "
    "own_name own_value seconds_per_question date machine versions settings result_file "
    "answers_file"
).split()


def csv_table(comparison: Comparison) -> str:
    """Returns the rows with all digits; what is not there is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in comparison.rows + comparison.mean_rows:
        share = None if row.of_full_main is None else 100 * row.of_full_main
        start = [row.benchmark or "mean", row.model, row.method, row.tokens, row.questions]
        numbers = [*_numbers(row.mean), share, *_numbers(row.of_full), *_numbers(row.recovered)]
        main = [row.main_name, row.main_value]
        writer.writerow([*start, *main, *numbers, row.unanswered, int(row.is_limited), *_made(row)])
    return text.getvalue()


def _made(row: Row) -> list:
    """Returns the benchmark's own number as it is printed, and how the run was made."""
    if row.run is None:
        return [None, None, row.seconds, *[None] * 6]
    own, made = OWN[row.benchmark], row.run.made
    return [
        own.heading,
        own.times * row.main_value,
        row.seconds,
        made.date,
        made.machine,
        made.versions,
        made.settings,
        row.run.path,
        row.run.answers_file,
    ]


def _numbers(sampled: Sampled | None) -> list[float | None]:
    if sampled is None:
        return [None, None, None]
    values = [100 * value for value in (sampled.value, sampled.low, sampled.high)]
    return [value if math.isfinite(value) else None for value in values]
