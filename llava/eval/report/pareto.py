"""Score against cost, as an inline SVG: which methods no other one beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from llava.eval.cost import Cost
from llava.eval.report.comparison import Row
from llava.eval.report.methods import title as method_title
from llava.eval.report.plot import OTHER, Coordinates, Frame, has_share
from llava.eval.report.rendering import render
from llava.eval.report.runs import FLOOR, FULL, budget_text
from llava.eval.report.statistics import Sampled
from llava.eval.report.units import operations_text, seconds_text

LARGE = Frame(480, 394, named=False, top=60)
NARROW = Frame(340, 340, named=False, top=60)  # replaces the large one on a phone
_APART = 11  # pixels between two numbers of the front
_TICKS_APART = 58  # pixels between two numbers of the scale
# Round numbers of a scale, coarse ones first.
_FACTORS = ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 5, 6, 8))


@dataclass(frozen=True)
class Axis:
    """The horizontal axis.

    Attributes:
        name: with its unit.
        of: the value of a cost; None where it was not measured.
        text: a value as it is printed.
    """

    name: str
    of: Callable[[Cost], float | None]
    text: Callable[[float], str]


TIME = Axis("seconds a question, measured (log scale)", lambda cost: cost.seconds, seconds_text)
FORMULA = Axis(
    "operations a question, by formula (log scale)", lambda cost: cost.operations, operations_text
)
COUNTED = Axis(
    "operations a question, counted (log scale)", lambda cost: cost.counted, operations_text
)


@dataclass(frozen=True)
class Point:
    """A method at a budget: its cost and its share of full.

    Attributes:
        row: its numbers.
        cost: its value on the axis.
        share: its share of full.
        number: its place on the front, the cheapest first; None where another method costs no more
            and scores no less.
    """

    row: Row
    cost: float
    share: Sampled
    number: int | None


def axes(rows: Sequence[Row]) -> list[Axis]:
    """Returns the axes that can be drawn: of time, and of operations, counted if all are."""
    known = [row.cost for row in rows if row.cost is not None and has_share(row)]
    if len(known) < 2:
        return []
    return [TIME, COUNTED if all(cost.counted for cost in known) else FORMULA]


def points(rows: Sequence[Row], axis: Axis) -> list[Point]:
    """Returns the methods with a cost, the cheapest first; the floor is not among them."""
    found = []
    for row in rows:
        cost = None if row.cost is None else axis.of(row.cost)
        if cost and row.of_full is not None and has_share(row) and row.method != FLOOR:
            found.append((cost, row.of_full, row))
    found.sort(key=lambda one: (one[0], -one[1].value))
    result, highest, number = [], -math.inf, 0
    for cost, share, row in found:
        on_front = share.value > highest
        if on_front:
            highest, number = share.value, number + 1
        result.append(Point(row, cost, share, number if on_front else None))
    return result


def pareto_chart(
    title: str, rows: Sequence[Row], styles: dict[str, int], axis: Axis, frame: Frame = LARGE
) -> Markup:
    """Returns a chart as SVG: a mark for each method and budget, the front joined and numbered.

    Args:
        title: title above the chart.
        rows: rows of one model; see axes.
        styles: styles from method_styles.
        axis: one of axes.
        frame: the size.
    """
    chart = _Chart(points(rows, axis), axis, styles, frame)
    return render("pareto.svg", chart=chart, title=title)


def label(row: Row) -> str:
    """Returns a method and its budget in words."""
    name = method_title(row.method)
    return name if row.method == FULL else f"{name}, {budget_text(row)} tokens"


class _Chart(Coordinates):
    """The contents of a chart."""

    def __init__(
        self, found: Sequence[Point], axis: Axis, styles: dict[str, int], frame: Frame
    ) -> None:
        self.axis, self.points = axis, found
        self._styles = styles
        costs = [point.cost for point in found]
        shares = [100 * point.share.value for point in found]
        ends = min(costs) / 1.08, max(costs) * 1.08
        super().__init__(frame, ends, (min(shares), max(shares)))

    @property
    def front(self) -> list[Point]:
        """The points that no other one beats in both."""
        return [point for point in self.points if point.number is not None]

    def costs(self) -> list[float]:
        """Returns round numbers of the horizontal scale; its ends where there are too few."""
        low, high = self.ends
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in _FACTORS:
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [value for value in values if low <= value <= high]
            if len(inside) > 2:
                break
        else:
            inside = [low, high]
        return self.spaced(inside, _TICKS_APART)

    def style(self, point: Point) -> int | None:
        """Returns the style of a point's mark; None for the full-token run."""
        return self._styles.get(point.row.method)

    def numbers(self) -> list[tuple[float, float, int]]:
        """Returns the x, the y and the text of each number of the front, apart from each other."""
        placed: list[tuple[float, float, int]] = []
        for point in self.front:
            x, y = self.x(point.cost), self.y(point.share.value) - 9
            while any(abs(x - a) < _APART and abs(y - b) < _APART for a, b, _ in placed):
                y -= _APART
            placed.append((x, y, point.number or 0))
        return placed

    def sorted_points(self) -> list[Point]:
        """Returns the points in the order in which they are drawn: shared styles first."""
        return sorted(self.points, key=lambda point: self.style(point) != OTHER)

    def tooltip(self, point: Point) -> str:
        """Returns the tooltip of a point."""
        return f"{label(point.row)}: {100 * point.share.value:.1f}% at {self.axis.text(point.cost)}"
