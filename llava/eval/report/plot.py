"""Accuracy against visual tokens, as an inline SVG whose colours come from the page.

Drawn here because plotly needs a script, and matplotlib, which a report does not need, writes fixed
colours, which do not follow a dark theme, and no tooltips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from llava.eval.report.comparison import Row
from llava.eval.report.methods import title as method_title
from llava.eval.report.rendering import render
from llava.eval.report.runs import ACCM, FLOOR, FULL, PRUNE, budget_text
from llava.eval.report.statistics import Sampled
from llava.eval.report.units import percent, score_heading

LEVELS = {FULL: "full", FLOOR: "floor"}  # methods drawn as horizontal lines, and their style
_LEVEL = -1  # instead of a method's style
_MARKS = 8  # methods with a colour and a shape of their own
OTHER = _MARKS  # the style that the further methods share

Number = TypeVar("Number", int, float)
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
        """The margin on the right, where lines may be named."""
        return 168 if self.named else 14


LARGE = Frame(860, 410, named=True)
SMALL = Frame(340, 246, named=False)
NARROW = Frame(340, 300, named=False)  # replaces the large one on a phone


def can_be_drawn(rows: Sequence[Row]) -> bool:
    """Returns whether one chart can show rows: finite shares of full, or one benchmark."""
    return all(map(has_share, rows)) or all(row.mean is not None for row in rows)


def has_share(row: Row) -> bool:
    """Returns whether a row has a share of full with a finite interval.

    It has none if the run with all tokens may be all wrong.
    """
    return row.of_full is not None and math.isfinite(row.of_full.high - row.of_full.low)


def _measure(rows: Sequence[Row]) -> tuple[str, Callable[[Row], Sampled]]:
    """Returns the title and the getter of a chart's values: shares of full, else mean scores."""
    if all(map(has_share, rows)):
        return "% of the score with all tokens", lambda row: row.of_full
    heading = score_heading(rows[0].benchmark or "")
    return heading[0].lower() + heading[1:], lambda row: row.mean


def method_styles(rows: Sequence[Row]) -> dict[str, int]:
    """Returns a number for each method's colour and shape, the same in all charts of a page.

    ACCM, its pruning alone and the six that reach the largest shares of full have their own; of
    more methods the others share one.
    """
    shares: dict[str, list[float]] = {}
    for row in rows:
        share = 0.0 if row.of_full is None else row.of_full.value
        shares.setdefault(row.method, []).append(share)
    names = sorted(shares.keys() - {ACCM, PRUNE, FULL, FLOOR})
    if len(names) > _MARKS - 2:  # a stable sort: names of equal shares stay in their order
        names.sort(key=lambda name: -sum(shares[name]) / len(shares[name]))
    return {name: min(place, OTHER) for place, name in enumerate([ACCM, PRUNE, *names])}


def accuracy_chart(title: str, rows: Sequence[Row], styles: dict[str, int], frame: Frame) -> Markup:
    """Returns a chart as SVG with a line per method and interval bars.

    The full-token run and the floor are horizontal lines.

    Args:
        title: title above the chart.
        rows: rows of one model and one benchmark, or the means over all; see can_be_drawn.
        styles: styles from method_styles.
        frame: the size.
    """
    chart = _Chart(rows, frame, styles)
    return render("chart.svg", chart=chart, title=title, LEVELS=LEVELS, OTHER=OTHER)


def on_the_way(share: float) -> float:
    """Returns the place of a share between floor and full on a line from 8 to 96 pixels."""
    return 8 + 88 * min(max(share, -0.08), 1.08)


class Coordinates:
    """The coordinates of a chart's values: a logarithmic scale to the right, shares upwards.

    Attributes:
        frame: the size.
        right: the x coordinate of the right edge.

    Args:
        frame: the size.
        ends: the values at the left and the right edge.
        shares: the least and the largest share, in per cent; the scale has round ends beyond them.
    """

    def __init__(
        self, frame: Frame, ends: tuple[float, float], shares: tuple[float, float]
    ) -> None:
        self.frame = frame
        self.right = frame.width - frame.right
        self.ends = ends
        self._from, self._to = map(math.log, ends)
        self._bottom, self._top, self._step = scale(*shares)

    def x(self, value: float) -> float:
        """Returns the x coordinate of a value, on the logarithmic scale."""
        share = (math.log(value) - self._from) / (self._to - self._from)
        return self.frame.left + (self.right - self.frame.left) * share

    def y(self, share: float) -> float:
        """Returns the y coordinate of a share of 1."""
        room = self.frame.height - self.frame.top - self.frame.bottom
        part = (100 * share - self._bottom) / (self._top - self._bottom)
        return self.frame.height - self.frame.bottom - room * part

    def steps(self) -> list[float]:
        """Returns the numbers of the vertical scale, in per cent."""
        count = round((self._top - self._bottom) / self._step)
        return [self._bottom + number * self._step for number in range(count + 1)]

    def spaced(self, values: Sequence[Number], pixels: float) -> list[Number]:
        """Returns those of rising values that lie so far apart that their labels do not overlap."""
        shown: list[Number] = []
        for value in values:
            if not shown or self.x(value) - self.x(shown[-1]) >= pixels:
                shown.append(value)
        return shown


class _Chart(Coordinates):
    """The contents of a chart."""

    def __init__(self, rows: Sequence[Row], frame: Frame, styles: dict[str, int]) -> None:
        self.name, self.of = _measure(rows)
        self.levels = [row for row in rows if row.method in LEVELS]
        self._points = [row for row in rows if row.method not in LEVELS and row.tokens is not None]
        drawn = [one for one in styles.items() if any(row.method == one[0] for row in self._points)]
        # Those that share a style are drawn first, below the others.
        self._methods = dict(sorted(drawn, key=lambda one: one[1] != OTHER))
        self._budgets = sorted({row.tokens for row in self._points if row.tokens is not None})
        low, high = (self._budgets[0], self._budgets[-1]) if self._budgets else (1, 1)
        margin = 1.25 if low < high else 2
        means = [self.of(row) for row in (*self._points, *self.levels)]
        shares = 100 * min(mean.low for mean in means), 100 * max(mean.high for mean in means)
        super().__init__(frame, (low / margin, high * margin), shares)

    def spaced_budgets(self) -> list[int]:
        """Returns budgets whose labels do not overlap."""
        return self.spaced(self._budgets, 26)

    def lines(self) -> list[tuple[int, list[tuple[float, Row]]]]:
        """Returns the style of each method and its rows, each with the x of its budget."""
        lines = []
        own = [method for method, style in self._methods.items() if style != OTHER]
        for method, style in self._methods.items():
            place = (len(own) - 1) / 2 if style == OTHER else own.index(method)
            shift = _DODGE * (place - (len(own) - 1) / 2)
            rows = sorted(self._of_method(method), key=lambda row: row.tokens or 0)
            lines.append((style, [(self.x(row.tokens or 0) + shift, row) for row in rows]))
        return lines

    def labels(self) -> list[tuple[float, int, str]]:
        """Returns height, style (-1 for a horizontal line) and name of the labels of lines.

        Each is near the end of its line, moved apart from others; none if the frame has no room.
        Lines of methods that share a style have no label: their names are in tooltips.
        """
        wanted = []
        for row in self.levels:
            budget = f" ({row.tokens})" if row.tokens else ""
            wanted.append((self.y(self.of(row).value), _LEVEL, method_title(row.method) + budget))
        for method, style in self._methods.items():
            if style == OTHER:
                continue
            last = max(self._of_method(method), key=lambda row: row.tokens or 0)
            wanted.append((self.y(self.of(last).value), style, method_title(method)))
        labels, free = [], -math.inf
        for y, style, name in sorted(wanted) if self.frame.named else ():
            labels.append((max(y, free), style, name))
            free = max(y, free) + _LABEL_GAP
        return labels

    def tooltip(self, row: Row) -> str:
        """Returns the tooltip of a point or a horizontal line."""
        budget = "" if row.tokens is None or row.method == FLOOR else f", {budget_text(row)} tokens"
        return f"{method_title(row.method)}{budget}: {percent(self.of(row))}"

    def _of_method(self, method: str) -> list[Row]:
        return [row for row in self._points if row.method == method]


def scale(low: float, high: float) -> tuple[float, float, float]:
    """Returns a scale of round steps around an interval: bottom, top, step."""
    if high - low < _SMALLEST_SPAN:  # runs with equal scores
        middle = (low + high) / 2
        low, high = middle - _SMALLEST_SPAN / 2, middle + _SMALLEST_SPAN / 2
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if high - low <= 6 * power * factor)
    return step * math.floor(low / step), step * math.ceil(high / step), step
