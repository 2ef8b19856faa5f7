"""The tower's outputs for one image: its visual tokens, and the values that pruners read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class View:
    """A grid of patches among the tokens of an image.

    LLaVA-1.5 has one; where an image is cut into tiles there are several.

    Attributes:
        start: the index of its first token.
        rows, columns: its sides, in patches; tokens go row by row.
    """

    start: int
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)  # compared by identity: a key of what was made from it
class VisualTokens:
    """The visual tokens of one image of N patches.

    Attributes:
        features: (N, C), a hidden layer (LLaVA-1.5: the one before the last) without the CLS,
            the projector's input.
        patch_embeds: (N, P), every patch in the space shared by image and text, not normalised.
        cls_attention: (N,) float32, attention of the CLS to each patch; with its attention to
            itself the values sum to 1.
    """

    features: Tensor
    patch_embeds: Tensor
    cls_attention: Tensor

    @property
    def views(self) -> tuple[View, ...]:
        """The grids that the tokens form."""
        side = math.isqrt(len(self.features))
        return (View(0, side, side),)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it takes."""
        return self.features.nbytes + self.patch_embeds.nbytes + self.cls_attention.nbytes

    def clone(self) -> VisualTokens:
        """Returns a copy with memory of its own, free of the batch in which it was encoded."""
        parts = (self.features, self.patch_embeds, self.cls_attention)
        return VisualTokens(*(part.clone() for part in parts))
