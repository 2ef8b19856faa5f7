"""images/accuracy.png: scores against visual tokens, from the table of llava.eval.report."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from figures.page import DPI, FAINT, INK, UNITS_PER_INCH
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llava.errors import UserError
from llava.eval.report.runs import ACCM, BENCHMARKS, FLOOR, FULL, PRUNE

_TITLES = {"mean": "Mean of the seven"} | BENCHMARKS
# Colours that colour-blind readers can distinguish, with different marks, as in the report's page.
_LINES = {ACCM: ("#0072b2", "o"), PRUNE: ("#c46a00", "s")}
_COLUMNS = ("mean_percent_of_full", "mean_percent_of_full_low", "mean_percent_of_full_high")


@dataclass(frozen=True)
class Point:
    """A row of the table: per cent of the full run's mean score, with its 95% interval."""

    method: str
    tokens: int
    value: float
    low: float
    high: float


def read_points(path: Path) -> dict[str, list[Point]]:
    """Returns the rows of a report's CSV by benchmark.

    Raises:
        UserError: there is no such file, or it is not a report with a full run.
    """
    try:
        rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}): bash scripts/quickstart.sh makes it; or leave "
            "the accuracy out with --only"
        ) from error
    try:
        return {title: _points(rows, title) for title in _TITLES}
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path} is no report of the seven benchmarks with a full run ({error}): give "
            "report.csv of bash scripts/quickstart.sh"
        ) from error


def _points(rows: Sequence[dict], benchmark: str) -> list[Point]:
    return [
        Point(row["method"], int(row["visual_tokens"]), *(float(row[name]) for name in _COLUMNS))
        for row in rows
        if row["benchmark"] == benchmark
    ]


def draw_accuracy(points: dict[str, list[Point]]) -> Figure:
    """Draws a large panel for the mean, and small ones for the benchmarks."""
    figure = Figure((940 / UNITS_PER_INCH, 440 / UNITS_PER_INCH), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    large, small = figure.subfigures(1, 2, width_ratios=(1, 1.75), wspace=0.02)
    mean, *benchmarks = _TITLES
    axis = large.subplots()
    _draw_panel(axis, mean, points[mean], size=8.5)
    axis.set_xlabel("visual tokens of 144", fontsize=8.5, color=FAINT)
    axis.set_ylabel("% of the score with all tokens", fontsize=8.5, color=FAINT)
    _name_values(axis, points[mean])
    axes = small.subplots(2, 4, sharex=True, sharey=True).flat
    for axis, benchmark in zip(axes, benchmarks):
        _draw_panel(axis, benchmark, points[benchmark], size=7.5)
    axes[3].tick_params(labelbottom=True)  # the legend is below it
    _draw_legend(axes[-1])
    return figure


def _draw_panel(axis: Axes, benchmark: str, points: Sequence[Point], size: float) -> None:
    budgets = sorted({p.tokens for p in points if p.method in _LINES})
    axis.set_title(_TITLES[benchmark], fontsize=size + 1, loc="left", color=INK, weight="bold")
    axis.axhline(100, color=FAINT, lw=1, ls=(0, (6, 4)))
    for point in points:
        if point.method == FLOOR:
            axis.axhline(point.value, color=FAINT, lw=1.4, ls=(0, (1, 3)))
    for method, (colour, mark) in _LINES.items():
        line = sorted((p for p in points if p.method == method), key=lambda p: p.tokens)
        places = [budgets.index(p.tokens) for p in line]
        values = [p.value for p in line]
        spread = [[p.value - p.low for p in line], [p.high - p.value for p in line]]
        axis.errorbar(
            places, values, spread, color=colour, marker=mark, ms=size / 2, lw=1.6, elinewidth=1
        )
    fits = len(budgets) <= (6 if size < 8 else 12)  # a small panel has no room for all
    named = budgets if fits else budgets[::2]
    axis.set_xticks([budgets.index(tokens) for tokens in named], [str(tokens) for tokens in named])
    axis.set(xlim=(-0.35, len(budgets) - 0.65), ylim=(0, 112), yticks=range(0, 101, 25))
    axis.tick_params(labelsize=size, colors=FAINT, length=0)
    axis.grid(axis="y", color="#eceef0", lw=0.8)
    axis.set_axisbelow(True)
    axis.spines[:].set_visible(False)


def _name_values(axis: Axes, points: Sequence[Point]) -> None:
    """Writes the numbers into the large panel."""
    budgets = sorted({p.tokens for p in points if p.method in _LINES})
    upper = {p.tokens: f"{p.value:.0f}" for p in points if p.method == ACCM}
    for point in points:
        if point.method not in _LINES:
            continue
        if point.method == PRUNE and upper.get(point.tokens) == f"{point.value:.0f}":
            continue  # where the lines meet, one number suffices
        above = point.method == ACCM
        axis.text(
            budgets.index(point.tokens),
            102 if above else point.low - 1,
            f"{point.value:.0f}",
            ha="center",
            va="bottom" if above else "top",
            fontsize=8.5,
            color=_LINES[point.method][0],
        )


def _draw_legend(axis: Axes) -> None:
    """Draws the legend at the place of an eighth benchmark."""
    axis.axis("off")
    for name, (colour, mark) in _LINES.items():
        axis.plot([], [], color=colour, marker=mark, ms=4, lw=1.6, label=_NAMES[name])
    axis.plot([], [], color=FAINT, lw=1, ls=(0, (6, 4)), label=_NAMES[FULL])
    axis.plot([], [], color=FAINT, lw=1.4, ls=(0, (1, 3)), label=_NAMES[FLOOR])
    axis.legend(loc="center left", fontsize=8, frameon=False, handlelength=2.4, borderpad=0)


_NAMES = {
    ACCM: "pruned, caption",
    PRUNE: "pruned",
    FULL: "all tokens",
    FLOOR: "no image",
}
