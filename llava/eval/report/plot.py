"""Accuracy against visual tokens, as an inline SVG whose colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from llava.eval.report.comparison import Row
from llava.eval.report.methods import title as method_title
from llava.eval.report.own import score_heading
from llava.eval.report.runs import ACCM, FLOOR, FULL, PRUNE
from llava.eval.report.statistics import Sampled
from llava.eval.report.table import percent

_MARKS = 4  # shapes, and colours of the page, before they repeat
_LABEL_GAP = 17  # pixels between labels at the right
_SMALLEST_SPAN = 1  # per cent from bottom to top of a scale
_DODGE = 5  # pixels between methods of one budget, so that interval bars do not hide each other


@dataclass(frozen=True)
class Frame:
    """Size of a chart in pixels, and whether its lines are named at the right."""

    width: int
    height: int
    named: bool
    left: int = 46
    top: int = 46
    bottom: int = 44

    @property
    def right(self) -> int:
        return 168 if self.named else 14


LARGE = Frame(860, 410, named=True)
SMALL = Frame(340, 246, named=False)
NARROW = Frame(340, 300, named=False)  # the large one's place on a phone


def can_be_drawn(rows: Sequence[Row]) -> bool:
    """Returns whether rows can stand in one chart: they have finite shares of full, or are of one
    benchmark."""
    return all(map(_has_share, rows)) or all(row.mean is not None for row in rows)


def _has_share(row: Row) -> bool:
    """Returns whether a row has a share of full whose interval ends somewhere: where the run with
    all tokens may as well be all wrong, it does not."""
    return row.of_full is not None and math.isfinite(row.of_full.high - row.of_full.low)


def _measure(rows: Sequence[Row]) -> tuple[str, Callable[[Row], Sampled]]:
    """Returns what a chart of these rows shows, and how it is read from a row: shares of full where
    there are any, else mean scores."""
    if all(map(_has_share, rows)):
        return "% of the score with all tokens", lambda row: row.of_full
    heading = score_heading(rows[0].benchmark)
    return heading[0].lower() + heading[1:], lambda row: row.mean


def method_styles(rows: Sequence[Row]) -> dict[str, int]:
    """A number for each method's colour and shape, the same in all charts of a page."""
    names = sorted({row.method for row in rows} - {ACCM, PRUNE, FULL, FLOOR})
    return {method: place % _MARKS for place, method in enumerate([ACCM, PRUNE, *names])}


def accuracy_chart(title: str, rows: Sequence[Row], styles: dict[str, int], frame: Frame) -> str:
    """One line a method, with interval bars; the full-token run and the floor as level lines.

    Args:
        title: above the chart.
        rows: of one model and one benchmark, or the means over all; see can_be_drawn.
        styles: of method_styles.
        frame: the size.
    """
    points = [row for row in rows if row.method not in (FULL, FLOOR) and row.tokens is not None]
    levels = [row for row in rows if row.method in (FULL, FLOOR)]
    axes = _Axes(points, levels, frame, *_measure(rows))
    methods = [m for m in styles if any(row.method == m for row in points)]
    parts = [axes.grid(), *(axes.level(row) for row in levels)]
    for place, method in enumerate(methods):
        shift = _DODGE * (place - (len(methods) - 1) / 2)
        line = sorted((row for row in points if row.method == method), key=lambda row: row.tokens)
        parts.append(axes.line(line, styles[method], shift))
    if frame.named:
        parts.append(_labels(axes, methods, points, levels, styles))
    return (
        f'<svg class="chart" viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-label="{escape(title)}: {axes.name} against visual tokens">'
        f'<text class="title" x="{frame.left}" y="14">{escape(title)}</text>{"".join(parts)}</svg>'
    )


def mark(x: float, y: float, style: int) -> str:
    """The shape of a method: circle, square, triangle or diamond."""
    if style == 0:
        return f'<circle class="m0" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    corners = {
        1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        2: ((0, -5.5), (5.2, 4), (-5.2, 4)),
        3: ((0, -5.8), (5.8, 0), (0, 5.8), (-5.8, 0)),
    }[style]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="m{style}" points="{points}"/>'


class _Axes:
    """Where numbers stand on the paper, and what is drawn there."""

    def __init__(
        self,
        points: Sequence[Row],
        levels: Sequence[Row],
        frame: Frame,
        name: str,
        of: Callable[[Row], Sampled],
    ) -> None:
        self._frame = frame
        self.name = name
        self.of = of
        self._budgets = sorted({row.tokens for row in points})
        low, high = (self._budgets[0], self._budgets[-1]) if self._budgets else (1, 1)
        margin = 1.25 if low < high else 2
        self._from, self._to = math.log(low / margin), math.log(high * margin)
        means = [of(row) for row in (*points, *levels)]
        self._bottom, self._top, self._step = _scale(
            100 * min(mean.low for mean in means), 100 * max(mean.high for mean in means)
        )

    def x(self, tokens: int) -> float:
        room = self._frame.width - self._frame.left - self._frame.right
        share = (math.log(tokens) - self._from) / (self._to - self._from)
        return self._frame.left + room * share

    def y(self, value: float) -> float:
        """Height of a share of 1."""
        room = self._frame.height - self._frame.top - self._frame.bottom
        share = (100 * value - self._bottom) / (self._top - self._bottom)
        return self._frame.height - self._frame.bottom - room * share

    @property
    def end(self) -> int:
        """The right edge."""
        return self._frame.width - self._frame.right

    def grid(self) -> str:
        """Lines of the scale, budgets below, and what the axes are."""
        left, bottom = self._frame.left, self._frame.height - self._frame.bottom
        parts = []
        for number in range(round((self._top - self._bottom) / self._step) + 1):
            value = self._bottom + number * self._step
            y = self.y(value / 100)
            parts.append(f'<path class="grid" d="M{left} {y:.1f}H{self.end}"/>')
            parts.append(f'<text class="tick end" x="{left - 8}" y="{y + 4:.1f}">{value:g}</text>')
        for tokens in self._spaced_budgets():
            x = self.x(tokens)
            parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v5"/>')
            parts.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 19}">{tokens}</text>')
        middle = (left + self.end) / 2
        parts.append(
            f'<text class="tick mid" x="{middle:.1f}" y="{bottom + 37}">visual tokens (log scale)'
            "</text>"
            f'<text class="tick" x="{left}" y="{self._frame.top - 12}">{self.name}</text>'
        )
        return "".join(parts)

    def _spaced_budgets(self) -> list[int]:
        """Budgets whose labels do not run into each other."""
        shown: list[int] = []
        for tokens in self._budgets:
            if not shown or self.x(tokens) - self.x(shown[-1]) >= 26:
                shown.append(tokens)
        return shown

    def level(self, row: Row) -> str:
        """The full-token run, or the floor: a line across, its interval as a band."""
        kind, left = "full" if row.method == FULL else "floor", self._frame.left
        mean = self.of(row)
        y, top, bottom = self.y(mean.value), self.y(mean.high), self.y(mean.low)
        return (
            f'<g class="{kind}"><title>{escape(self._tooltip(row))}</title>'
            f'<rect x="{left}" y="{top:.1f}" width="{self.end - left}" '
            f'height="{bottom - top:.1f}"/>'
            f'<path d="M{left} {y:.1f}H{self.end}"/></g>'
        )

    def line(self, rows: Sequence[Row], style: int, shift: float) -> str:
        """A method: its points joined, each with its interval bar."""
        places = [(self.x(row.tokens) + shift, self.y(self.of(row).value)) for row in rows]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts = [f'<polyline class="m{style}" points="{path}"/>']
        for row, (x, y) in zip(rows, places):
            low, high = self.y(self.of(row).low), self.y(self.of(row).high)
            bar = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 3:.1f} {low:.1f}h6M{x - 3:.1f} {high:.1f}h6"
            parts.append(
                f"<g><title>{escape(self._tooltip(row))}</title>"
                f'<path class="bar m{style}" d="{bar}"/>'
                f"{mark(x, y, style)}</g>"
            )
        return "".join(parts)

    def _tooltip(self, row: Row) -> str:
        budget = "" if row.tokens is None or row.method == FLOOR else f", {row.tokens} tokens"
        return f"{method_title(row.method)}{budget}: {percent(self.of(row))}"


def _labels(
    axes: _Axes,
    methods: Sequence[str],
    points: Sequence[Row],
    levels: Sequence[Row],
    styles: dict[str, int],
) -> str:
    """Names of the lines at the right, each near where its line ends, moved apart."""
    wanted = []
    for row in levels:
        budget = f" ({row.tokens})" if row.tokens else ""
        wanted.append((axes.y(axes.of(row).value), "level", method_title(row.method) + budget))
    for method in methods:
        last = max((row for row in points if row.method == method), key=lambda row: row.tokens)
        wanted.append((axes.y(axes.of(last).value), f"m{styles[method]}", method_title(method)))
    parts, free = [], -math.inf
    for y, kind, name in sorted(wanted):
        y = max(y, free)
        free = y + _LABEL_GAP
        shape = mark(axes.end + 15, y, int(kind[1:])) if kind != "level" else ""
        x = axes.end + (26 if shape else 8)
        place = f'x="{x}" y="{y + 4:.1f}"'
        parts.append(f'{shape}<text class="label {kind}" {place}>{escape(name)}</text>')
    return "".join(parts)


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """A scale of round steps around an interval: bottom, top, step."""
    if high - low < _SMALLEST_SPAN:  # runs that score the same
        middle = (low + high) / 2
        low, high = middle - _SMALLEST_SPAN / 2, middle + _SMALLEST_SPAN / 2
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if high - low <= 6 * power * factor)
    return step * math.floor(low / step), step * math.ceil(high / step), step
