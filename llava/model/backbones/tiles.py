"""The geometry of LLaVA-NeXT's images: a base view, and tiles at a higher resolution.

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

from llava.model.multimodal_encoder.visual_tokens import View, VisualTokens

Size = tuple[int, int]  # height, width


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
        """The base view, and of each tile the part that is not padding, if there is one."""
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


@dataclass(frozen=True, eq=False)
class TiledTokens(VisualTokens):
    """The visual tokens of an image of several views.

    Attributes:
        layout: of its views.
        describes_all: whether texts are written of all views, and not of the base view alone.
    """

    layout: TileLayout | None = None
    describes_all: bool = False

    @property
    def num_described(self) -> int:
        """The number of its tokens, from the first, that texts are written of."""
        return len(self.features) if self.describes_all else super().num_described


def layout_of(size: Size, resolutions: Sequence[Size], image_size: int, side: int) -> TileLayout:
    """Returns the layout of an image from its size alone.

    Args:
        size: height and width of the image.
        resolutions: heights and widths, multiples of image_size, of which the best is taken.
        image_size: the side of a view in pixels.
        side: the side of a view in patches.
    """
    best = select_best_resolution(size, resolutions)
    rows, columns = best[0] // image_size, best[1] // image_size
    whole, (height, width) = TileLayout(side, rows, columns), size
    # As in transformers, whose rounding decides which patches at the edges count as padding.
    if width / height > whole.width / whole.height:
        shown = int(round(height * (whole.width / width), 7))
        return TileLayout(side, rows, columns, top=(whole.height - shown) // 2)
    shown = int(round(width * (whole.height / height), 7))
    return TileLayout(side, rows, columns, left=(whole.width - shown) // 2)


def largest_size(resolutions: Sequence[Size]) -> Size:
    """Returns the height and width of an image with the largest N: it fills a whole resolution."""
    return max(resolutions, key=lambda size: size[0] * size[1])


def with_newlines(tokens: Tensor, kept_idx: Tensor, layout: TileLayout, newline: Tensor) -> Tensor:
    """Returns what the LLM reads of an image: its tokens, and newline tokens among them.

    Args:
        tokens: (K, D), the kept tokens after the projector.
        kept_idx: (K,) int64, their indices.
        layout: of the image.
        newline: (D,).

    Returns:
        (K + newline tokens, D).
    """
    pieces, start, row_end = [], 0, newline.to(tokens)[None]
    for end in newline_places(kept_idx, layout):
        pieces += [tokens[start:end], row_end]
        start = end
    return torch.cat([*pieces, tokens[start:]])


def newline_places(kept_idx: Tensor, layout: TileLayout) -> list[int]:
    """Returns the numbers of kept tokens before each newline token, rising.

    The newline token of a row of tiles follows the last kept token of that row, in the order in
    which the LLM reads them; a row of which nothing is kept has none. A grid whose columns are all
    padding has newline tokens only while every token is kept, as in transformers.
    """
    if layout.width == 0:
        return [layout.base] * (layout.height if len(kept_idx) == layout.num_tokens else 0)
    last: dict[int, int] = {}
    rows = (kept_idx - layout.base).div(layout.width, rounding_mode="floor")
    for place, row in enumerate(rows.tolist()):
        if row >= 0:
            last[row] = place + 1
    return sorted(last.values())


def most_newlines(num_tokens: int, layout: TileLayout) -> int:
    """Returns the largest number of newline tokens among that many kept tokens of an image."""
    if layout.width == 0:
        return len(newline_places(torch.arange(num_tokens), layout))
    return min(num_tokens, layout.height)
