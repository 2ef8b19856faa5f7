"""The measurements as JSON, as Markdown, and as a picture of stage times (a PNG)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from llava.eval.bench.arguments import ACCM, HF, PRUNE
from llava.eval.bench.measuring import NOISY, Measured
from llava.eval.bench.methods import STAGES, Case
from llava.eval.bench.prediction import Machine, Pass
from llava.extras import missing_package
from llava.files import write_whole
from llava.markdown import markdown_table

_GIB = 1 << 30
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = dict(
    zip(
        STAGES,
        "#0072B2 #999999 #D55E00 #CC79A7 #E69F00 #000000 #56B4E9 #009E73".split(),
        strict=True,
    )
)
_ROW_INCHES = 0.42


class Costs(Protocol):
    """The passes of a case's stages; CostModel is one."""

    def stages(self, case: Case) -> dict[str, list[Pass]]:
        """Returns the passes of a case, for its whole batch."""

    def cache_bytes(self, case: Case) -> int:
        """Returns the size of the LLM's keys and values at the end."""


def records(found: Sequence[Measured], costs: Costs, machine: Machine) -> list[dict]:
    """Returns one JSON object per case, with seconds, operations and bytes of the whole batch."""
    return [_record(one, costs, machine) for one in found]


def _record(one: Measured, costs: Costs, machine: Machine) -> dict:
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


def check_picture() -> None:
    """Refuses to draw if matplotlib is missing.

    Raises:
        UserError: it is missing; the message says how to get it, or do without.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package(
            "the picture (--no-picture leaves it out)", "matplotlib", "bench"
        ) from error


def draw_picture(rows: Sequence[dict], title: str, path: Path) -> None:
    """Draws one bar per case, and one panel per batch size.

    Args:
        rows: rows from table.records.
        title: the title above.
        path: the PNG.
    """
    from matplotlib.figure import Figure  # slow to import

    sizes = list(dict.fromkeys(row["batch_size"] for row in rows))
    panels = [[row for row in rows if row["batch_size"] == size] for size in sizes]
    stages = _stages(rows)
    heights = [len(panel) + 1 for panel in panels]
    figure = Figure(figsize=(9, 1.4 + _ROW_INCHES * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, size, panel in zip(axes, sizes, panels):
        _draw_panel(axis, panel, stages)
        axis.set_title(f"batch {size}", loc="left", fontsize=10)
    axes[-1].set_xlabel("seconds per sample (medians)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(stages), frameon=False)
    figure.suptitle(title, fontsize=11)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=140))


def _draw_panel(axis, panel: Sequence[dict], stages: Sequence[str]) -> None:
    """Draws the bars of one batch size, from top to bottom."""
    names = [name(row) for row in panel]
    left = [0.0] * len(panel)
    for stage in stages:
        widths = [stage_seconds(row, stage) for row in panel]
        axis.barh(names, widths, left=left, color=_COLOURS[stage], label=stage, height=0.7)
        left = [start + width for start, width in zip(left, widths)]
    longest = max(left)
    for place, (end, row) in enumerate(zip(left, panel)):
        seconds = row["seconds_per_sample"]
        text = f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
        axis.text(end + longest / 100, place, text, va="center", fontsize=9)
    axis.set_xlim(0, 1.12 * longest)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
