"""The measurements as JSON and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from llava.eval.bench.arguments import ACCM, HF, PRUNE
from llava.eval.bench.measuring import NOISY, Measured
from llava.eval.bench.methods import STAGES
from llava.eval.bench.prediction import CostModel, Machine
from llava.markdown import markdown_table

_GIB = 1 << 30


def records(found: Sequence[Measured], costs: CostModel, machine: Machine) -> list[dict]:
    """Returns one JSON object per case, with seconds, operations and bytes of the whole batch."""
    return [_record(one, costs, machine) for one in found]


def _record(one: Measured, costs: CostModel, machine: Machine) -> dict:
    stages = costs.stages(one.case)
    return {
        "method": one.case.method,
        "visual_token_num": one.case.visual_token_num,
        "batch_size": one.case.batch_size,
        "seconds_per_sample": one.seconds,
        "spread": one.spread,
        "noisy": one.is_noisy,
        "totals": one.totals,
        "stages": one.stages,
        "predicted": {stage: machine.seconds(passes) for stage, passes in stages.items()},
        "operations": {
            stage: sum(p.operations for p in passes) for stage, passes in stages.items()
        },
        "counted_operations": one.operations,
        "cache_bytes": costs.cache_bytes(one.case),
        "weight_bytes": one.weight_bytes,
        "peak_bytes": one.peak_bytes,
    }


def markdown(rows: Sequence[dict]) -> str:
    """Returns two tables: time per sample, and its parts."""
    return "\n\n".join([_times(rows), _work(rows)]) + "\n"


def name(row: dict) -> str:
    """Returns the name of a row, apart from its batch size."""
    kept = f", K = {row['visual_token_num']}" if row["method"] in (PRUNE, ACCM) else ""
    return f"{row['method']}{kept}"


def _stages(rows: Sequence[dict]) -> list[str]:
    return [stage for stage in STAGES if any(stage in row["stages"] for row in rows)]


def stage_seconds(row: dict, stage: str) -> float:
    """Returns the median time of a stage per sample."""
    return statistics.median(row["stages"].get(stage, [0.0])) / row["batch_size"]


def _times(rows: Sequence[dict]) -> str:
    """Returns milliseconds per sample, as measured."""
    stages = _stages(rows)
    heads = ["ms per sample", "batch", "all", "spread", "times hf", *stages]
    base = {row["batch_size"]: row["seconds_per_sample"] for row in rows if row["method"] == HF}
    cells = []
    for row in rows:
        hf, own = base.get(row["batch_size"]), row["seconds_per_sample"]
        noisy = " (noisy)" if row["noisy"] else ""
        times = [
            f"{1000 * stage_seconds(row, stage):,.1f}" if stage in row["stages"] else ""
            for stage in stages
        ]
        whole = [f"{1000 * own:,.1f}", f"{100 * row['spread']:.1f}%{noisy}"]
        faster = f"{hf / own:.2f}" if hf else ""
        cells.append([name(row), str(row["batch_size"]), *whole, faster, *times])
    lines = markdown_table(heads, cells, texts=1)
    if any(
        sum(stage_seconds(row, s) for s in stages) > 1.05 * row["seconds_per_sample"]
        for row in rows
    ):
        lines += ["", "Stages overlap: the LLM reads ahead while the caption is written."]
    if any(row["noisy"] for row in rows):
        lines += ["", f"noisy: the middle half of the rounds spreads over more than {NOISY:.0%}."]
    return "\n".join(lines)


def _work(rows: Sequence[dict]) -> str:
    """Returns predicted milliseconds and computed operations per stage, and memory."""
    stages = _stages(rows)
    heads = ["predicted ms (GFLOP) per sample", "batch", "all", *stages]
    cells = []
    for row in rows:
        size, predicted = row["batch_size"], row["predicted"]
        work = [
            f"{1000 * predicted[stage] / size:,.1f} ({row['operations'][stage] / size / 1e9:,.1f})"
            if stage in predicted
            else ""
            for stage in stages
        ]
        total = f"{1000 * sum(predicted.values()) / size:,.1f}"
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / _GIB:.2f} GiB"
        memory = [
            f"{row['cache_bytes'] / _GIB:.3f} GiB",
            peak,
            f"{row['weight_bytes'] / _GIB:.2f} GiB",
        ]
        cells.append([name(row), str(size), total, *work, *memory])
    heads += ["cache", "peak beyond weights", "weights"]
    return "\n".join(markdown_table(heads, cells, texts=1))
