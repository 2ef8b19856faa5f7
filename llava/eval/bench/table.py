"""What was measured, as JSON and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from llava.eval.bench.arguments import ACCM, HF, PRUNE
from llava.eval.bench.measuring import NOISY, Measured
from llava.eval.bench.methods import STAGES
from llava.eval.bench.prediction import CostModel, Machine

_GIB = 1 << 30


def records(found: Sequence[Measured], costs: CostModel, machine: Machine) -> list[dict]:
    """One JSON object a case; seconds, operations and bytes of the whole batch."""
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
    """Two tables: time per sample, and what it is made of."""
    return "\n\n".join([_times(rows), _work(rows)]) + "\n"


def name(row: dict) -> str:
    """What a row is called beside its batch size."""
    kept = f", K = {row['visual_token_num']}" if row["method"] in (PRUNE, ACCM) else ""
    return f"{row['method']}{kept}"


def _stages(rows: Sequence[dict]) -> list[str]:
    return [stage for stage in STAGES if any(stage in row["stages"] for row in rows)]


def stage_seconds(row: dict, stage: str) -> float:
    """The median per sample."""
    return statistics.median(row["stages"].get(stage, [0.0])) / row["batch_size"]


def _times(rows: Sequence[dict]) -> str:
    """Milliseconds per sample, as measured."""
    stages = _stages(rows)
    lines = [
        "| ms per sample | batch | all | spread | times hf | " + " | ".join(stages) + " |",
        "| --- |" + " ---: |" * (4 + len(stages)),
    ]
    base = {row["batch_size"]: row["seconds_per_sample"] for row in rows if row["method"] == HF}
    for row in rows:
        hf = base.get(row["batch_size"])
        faster = f"{hf / row['seconds_per_sample']:.2f}" if hf else ""
        cells = [
            f"{1000 * stage_seconds(row, stage):,.1f}" if stage in row["stages"] else ""
            for stage in stages
        ]
        noisy = " (noisy)" if row["noisy"] else ""
        lines.append(
            f"| {name(row)} | {row['batch_size']} | {1000 * row['seconds_per_sample']:,.1f} | "
            f"{100 * row['spread']:.1f}%{noisy} | {faster} | " + " | ".join(cells) + " |"
        )
    if any(
        sum(stage_seconds(row, s) for s in stages) > 1.05 * row["seconds_per_sample"]
        for row in rows
    ):
        lines += ["", "Stages overlap: the LLM reads ahead while the caption is written."]
    if any(row["noisy"] for row in rows):
        lines += ["", f"noisy: the middle half of the rounds spreads over more than {NOISY:.0%}."]
    return "\n".join(lines)


def _work(rows: Sequence[dict]) -> str:
    """Predicted milliseconds and computed operations per stage, and memory."""
    stages = _stages(rows)
    lines = [
        "| predicted ms (GFLOP) per sample | batch | all | "
        + " | ".join(stages)
        + " | cache | peak beyond weights | weights |",
        "| --- |" + " ---: |" * (5 + len(stages)),
    ]
    for row in rows:
        size = row["batch_size"]
        cells = [
            f"{1000 * row['predicted'][stage] / size:,.1f} "
            f"({row['operations'][stage] / size / 1e9:,.1f})"
            if stage in row["predicted"]
            else ""
            for stage in stages
        ]
        total = 1000 * sum(row["predicted"].values()) / size
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / _GIB:.2f} GiB"
        lines.append(
            f"| {name(row)} | {size} | {total:,.1f} | "
            + " | ".join(cells)
            + f" | {row['cache_bytes'] / _GIB:.3f} GiB | {peak} | "
            f"{row['weight_bytes'] / _GIB:.2f} GiB |"
        )
    return "\n".join(lines)
