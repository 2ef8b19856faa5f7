"""The rows as CSV, for programs: new columns are added at the end."""

from __future__ import annotations

import csv
import io
import math

from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.own import OWN
from llava.eval.report.statistics import Sampled


def csv_table(comparison: Comparison) -> str:
    """Returns the rows with all digits; missing values are empty cells."""
    records = [_record(row) for row in comparison.rows + comparison.mean_rows]
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


def _percent(name: str, sampled: Sampled | None) -> dict[str, float | None]:
    """Returns a number and the ends of its interval; values that are not finite stay empty."""
    names = (name, f"{name}_low", f"{name}_high")
    if sampled is None:
        return dict.fromkeys(names)
    values = [100 * value for value in (sampled.value, sampled.low, sampled.high)]
    return {n: value if math.isfinite(value) else None for n, value in zip(names, values)}
