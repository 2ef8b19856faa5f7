"""The rows as CSV, for programs: new columns are added at the end."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from llava.eval.cost import Cost
from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.standing import differences
from llava.eval.report.statistics import Sampled
from llava.eval.report.units import OWN


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
