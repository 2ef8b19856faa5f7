"""Stage times stacked against the budget, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava.eval.bench.methods import STAGES
from llava.eval.bench.table import name, stage_seconds
from llava.extras import missing_package
from llava.files import write_whole

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = dict(
    zip(STAGES, ("#0072B2", "#999999", "#D55E00", "#E69F00", "#000000", "#56B4E9", "#009E73"))
)
_ROW_INCHES = 0.42


def check() -> None:
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


def draw(rows: Sequence[dict], title: str, path: Path) -> None:
    """Draws one bar per case, and one panel per batch size.

    Args:
        rows: rows from table.records.
        title: the title above.
        path: the PNG.
    """
    from matplotlib.figure import Figure  # slow to import

    sizes = list(dict.fromkeys(row["batch_size"] for row in rows))
    panels = [[row for row in rows if row["batch_size"] == size] for size in sizes]
    heights = [len(panel) + 1 for panel in panels]
    figure = Figure(figsize=(9, 1.4 + _ROW_INCHES * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, size, panel in zip(axes, sizes, panels):
        _draw_panel(axis, panel)
        axis.set_title(f"batch {size}", loc="left", fontsize=10)
    axes[-1].set_xlabel("seconds per sample (medians)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(STAGES), frameon=False)
    figure.suptitle(title, fontsize=11)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=140))


def _draw_panel(axis, panel: Sequence[dict]) -> None:
    """Draws the bars of one batch size, from top to bottom."""
    names = [name(row) for row in panel]
    left = [0.0] * len(panel)
    for stage in STAGES:
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
