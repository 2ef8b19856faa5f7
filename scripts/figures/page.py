"""A page to draw figures on: boxes, arrows, texts and pictures, in units of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from PIL import Image

from llava.eval.figure import REASON_COLOURS
from llava.files import write_whole

INK, FAINT, LINE, PAPER = "#1d2228", "#636b76", "#c3cad4", "#ffffff"
BLUE, GREEN, GREY = "#e9f0fb", "#e8f5ee", "#f3f4f6"
CHOSEN = "#0b7a4b"
UNITS_PER_INCH = 100
DPI = 200  # two pixels per unit: sharp on high-resolution screens
REASONS = {reason: tuple(level / 255 for level in rgb) for reason, rgb in REASON_COLOURS.items()}


class Page:
    """A white page with the origin at the upper left; a README is about 900 units wide."""

    def __init__(self, width: int, height: int) -> None:
        self.figure = Figure((width / UNITS_PER_INCH, height / UNITS_PER_INCH), facecolor=PAPER)
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set(xlim=(0, width), ylim=(height, 0))
        self._axes.axis("off")

    def text(
        self, x: float, y: float, text: str, size: float = 8, colour=INK, at: str = "mm", **style
    ) -> None:
        """Draws a text; ``at`` names its point at (x, y): l, m or r, then t, m or b."""
        places = {"l": "left", "m": "center", "r": "right"}
        heights = {"t": "top", "m": "center_baseline", "b": "bottom"}
        settings = dict(ha=places[at[0]], va=heights[at[1]], color=colour, linespacing=1.35)
        self._axes.text(x, y, text, fontsize=size, **settings | style)

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, edge: str = LINE
    ) -> None:
        """Draws a box with round corners."""
        style = "round,pad=0,rounding_size=7"
        self._axes.add_patch(
            FancyBboxPatch((x, y), width, height, style, facecolor=fill, edgecolor=edge, lw=0.8)
        )

    def bar(self, x: float, y: float, width: float, height: float, colour) -> None:
        """Draws a filled rectangle without an edge."""
        self._axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, lw=0))

    def frame(self, x: float, y: float, side: float, colour, width: float = 1.2) -> None:
        """Draws the edges of a square."""
        self._axes.add_patch(
            Rectangle((x, y), side, side, facecolor="none", edgecolor=colour, lw=width)
        )

    def picture(self, x: float, y: float, picture: Image.Image, side: float) -> None:
        """Draws a square picture."""
        self._axes.imshow(
            np.asarray(picture),
            extent=(x, x + side, y + side, y),
            interpolation="antialiased",
            aspect="auto",
            zorder=1,  # as boxes: later drawings are above earlier ones
        )

    def arrow(self, *points: Sequence[float], colour: str = FAINT) -> None:
        """Draws lines from point to point, along the axes, with a head at the end."""
        (x0, y0), (x, y) = points[-2:]
        dx, dy = np.sign(x - x0), np.sign(y - y0)
        back, side = 8, 3.6
        shaft = [*points[:-1], (x - dx * back, y - dy * back)]
        self._axes.plot(*zip(*shaft), color=colour, lw=1.2, solid_capstyle="butt", zorder=2)
        left = (x - dx * back - dy * side, y - dy * back - dx * side)
        right = (x - dx * back + dy * side, y - dy * back + dx * side)
        self._axes.add_patch(Polygon([(x, y), left, right], facecolor=colour, lw=0, zorder=2))

    def save(self, path: Path) -> None:
        """Writes the page to a PNG file."""
        write_whole(
            path, lambda file: self.figure.savefig(file, format="png", dpi=DPI, facecolor=PAPER)
        )
