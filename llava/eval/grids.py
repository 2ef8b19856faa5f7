"""The grids of an image's visual tokens that each show the whole image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Grid(NamedTuple):
    """A grid of tokens, row by row.

    Attributes:
        start: the index of its first token.
        rows, columns: its sides, in tokens.
    """

    start: int
    rows: int
    columns: int

    def place(self, token: int) -> tuple[float, float, float, float] | None:
        """Returns left, top, right and bottom of a token, as parts of the image's sides.

        Returns None for a token of another grid.
        """
        if not 0 <= token - self.start < self.rows * self.columns:
            return None
        row, column = divmod(token - self.start, self.columns)
        return (
            column / self.columns,
            row / self.rows,
            (column + 1) / self.columns,
            (row + 1) / self.rows,
        )


def square_grid(num_tokens: int) -> tuple[Grid, ...]:
    """Returns the grid of a square number of tokens, and none of another number."""
    side = math.isqrt(num_tokens)
    return (Grid(0, side, side),) if side**2 == num_tokens else ()


def whole_grids(views: Sequence[tuple[int, int, int, int]]) -> tuple[Grid, ...]:
    """Returns the base view, and the tiles together, which form one grid.

    Args:
        views: start, rows, columns and stride of each view; see View.
    """
    (start, rows, columns, _), *tiles = views
    base = Grid(start, rows, columns)
    if not tiles:
        return (base,)
    start, _, _, stride = tiles[0]
    return base, Grid(start, sum(r * c for _, r, c, _ in tiles) // stride, stride)
