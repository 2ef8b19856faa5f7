"""The geometry of LLaVA-NeXT's images: one base view, and tiles of the image at a higher resolution.

The base view is the whole image, scaled to one square. The tiles cut up the image in its own
proportions, which is padded to the best of a few resolutions. Their patches form one grid, of which
the rows or columns that show only padding are left out. A newline token follows each row of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from llava.errors import UserError
from llava.model.multimodal_encoder.visual_tokens import View

Size = tuple[int, int]  # height, width


@dataclass(frozen=True, eq=False)
class Tiles:
    """The pixels of one image.

    Attributes:
        values: (V, 3, S, S) float32 on the CPU: the base view, and the tiles row by row.
        size: height and width of the image in pixels.
    """

    values: Tensor
    size: Size


@dataclass(frozen=True)
class TileLayout:
    """The tokens of one image by their views.

    Attributes:
        side: of a view in patches.
        rows, columns: the numbers of tiles.
        top, left: the rows of patches that are padding at the top, and as many at the bottom; the
            columns at the left, and as many at the right.
    """

    side: int
    rows: int
    columns: int
    top: int = 0
    left: int = 0

    @property
    def base(self) -> int:
        """The number of tokens of the base view, which come first."""
        return self.side**2

    @property
    def height(self) -> int:
        """The rows of the grid of tiles, each of which has a newline token."""
        return self.side * self.rows - 2 * self.top

    @property
    def width(self) -> int:
        """The columns of the grid of tiles, without the newline tokens."""
        return self.side * self.columns - 2 * self.left

    @property
    def num_tokens(self) -> int:
        """N, the number of visual tokens, without the newline tokens."""
        return self.base + self.height * self.width

    @property
    def views(self) -> tuple[View, ...]:
        """The base view, and the part of each tile that is not padding; tiles without one miss."""
        found = [View(0, self.side, self.side)]
        for top, bottom in self._bands(self.rows, self.top):
            for left, right in self._bands(self.columns, self.left):
                start = self.base + top * self.width + left
                found.append(View(start, bottom - top, right - left, self.width))
        return tuple(found)

    def _bands(self, tiles: int, padding: int) -> list[tuple[int, int]]:
        """Returns first and last line of each tile along one side, without the padding."""
        length = self.side * tiles - 2 * padding
        edges = [self.side * i - padding for i in range(tiles + 1)]
        bands = [(max(0, a), min(length, b)) for a, b in zip(edges, edges[1:])]
        return [(a, b) for a, b in bands if a < b]

    @property
    def order(self) -> Tensor:
        """The places (N,) int64 of the tokens among the patches of all views, view by view."""
        side, base = self.side, torch.arange(self.base)
        patches = torch.arange(self.rows * self.columns * self.base) + self.base
        grid = patches.view(self.rows, self.columns, side, side).transpose(1, 2)
        grid = grid.reshape(self.rows * side, self.columns * side)
        shown = grid[self.top : len(grid) - self.top, self.left : grid.shape[1] - self.left]
        return torch.cat([base, shown.flatten()])

    def rows_of(self, idx: Tensor) -> Tensor:
        """Returns the row (K,) of the grid of tiles of each token; -1 of one of the base view."""
        if self.width == 0:
            return torch.full_like(idx, -1)
        row = (idx - self.base).div(self.width, rounding_mode="floor")
        return row.clamp(min=-1)


def layout_of(size: Size, resolutions: Sequence[Size], image_size: int, side: int) -> TileLayout:
    """Returns the layout of an image from its size alone.

    Args:
        size: height and width of the image.
        resolutions: heights and widths, multiples of image_size, of which the best is taken.
        image_size: the side of a view in pixels.
        side: the side of a view in patches.

    Raises:
        UserError: the image is so narrow that nothing would be left of it at any resolution.
    """
    best = select_best_resolution(size, resolutions)
    if best is None:
        raise UserError(
            f"the image has {size[1]} x {size[0]} pixels: scaled to LLaVA-NeXT's resolutions, its "
            "shorter side would vanish. Cut a part out of it, or pad it"
        )
    rows, columns = best[0] // image_size, best[1] // image_size
    whole, (height, width) = TileLayout(side, rows, columns), size
    # As in transformers, whose rounding decides which patches at the edges count as padding.
    if width / height > whole.width / whole.height:
        shown = int(round(height * (whole.width / width), 7))
        return TileLayout(side, rows, columns, top=(whole.height - shown) // 2)
    shown = int(round(width * (whole.height / height), 7))
    return TileLayout(side, rows, columns, left=(whole.width - shown) // 2)


def with_newlines(
    tokens: Tensor, kept_idx: Tensor | None, layout: TileLayout, newline: Tensor
) -> Tensor:
    """Returns what the LLM reads of an image: its tokens, and newline tokens among them.

    Args:
        tokens: (K, D), the kept tokens after the projector.
        kept_idx: (K,) int64, their indices; None: all N are kept.
        layout: of the image.
        newline: (D,).

    Returns:
        (K + newline tokens, D).
    """
    pieces, start = [], 0
    for end in newline_places(kept_idx, layout):
        pieces += [tokens[start:end], newline.to(tokens)[None]]
        start = end
    return torch.cat([*pieces, tokens[start:]])


def newline_places(kept_idx: Tensor | None, layout: TileLayout) -> list[int]:
    """Returns the numbers of kept tokens before each newline token, rising.

    The newline token of a row of tiles follows the last kept token of that row, in the order in
    which the LLM reads them. A row of which nothing is kept has none. If all tokens are kept (None),
    each row has one, as in transformers, even in a grid whose columns are all padding.
    """
    if kept_idx is None:
        return [layout.base + layout.width * (row + 1) for row in range(layout.height)]
    last: dict[int, int] = {}
    for place, row in enumerate(layout.rows_of(kept_idx).tolist()):
        if row >= 0:
            last[row] = place + 1
    return sorted(last.values())
