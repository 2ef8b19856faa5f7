"""What the tower says of one image: its visual tokens, and what pruners read of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class View:
    """A grid of patches among the tokens of an image: one for LLaVA-1.5, several where an image is
    cut into tiles.

    Attributes:
        start: the place of its first token.
        rows, columns: its sides, in patches; tokens go row by row.
    """

    start: int
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)  # equal to nothing but itself: it names what was made of it
class VisualTokens:
    """One image of N patches.

    Attributes:
        features: (N, C), a hidden layer (LLaVA-1.5: the one before the last) without the CLS:
            what the projector reads.
        patch_embeds: (N, P), every patch in the space that image and text share, not normalised.
        cls_attention: (N,) float32, how much the CLS looks at each patch; with the CLS' look at
            itself the values sum to 1.
        grids: the views of the image; None for a single square.
    """

    features: Tensor
    patch_embeds: Tensor
    cls_attention: Tensor
    grids: tuple[View, ...] | None = None

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The grids that the tokens lie in."""
        side = math.isqrt(len(self.features))
        return (View(0, side, side),) if self.grids is None else self.grids

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        return self.features.nbytes + self.patch_embeds.nbytes + self.cls_attention.nbytes

    def clone(self) -> VisualTokens:
        """Returns the same with memory of its own, free of the batch in which it was encoded."""
        parts = (self.features, self.patch_embeds, self.cls_attention)
        return VisualTokens(*(part.clone() for part in parts), self.grids)
