"""The tower's outputs for one image: its visual tokens, and the values that pruners read."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import Flag, auto

from torch import Tensor


class Needs(Flag):
    """The inputs that a pruner or a compensation reads beside the grid of the tokens."""

    NOTHING = 0
    PATCH_EMBEDS = auto()
    CLS_ATTENTION = auto()
    QUESTION = auto()
    RAW_QUESTION = auto()  # its embedding before it is brought to unit length


# What the vision tower computes beside the features, if nobody says what is needed.
OF_IMAGE = Needs.PATCH_EMBEDS | Needs.CLS_ATTENTION


# The fields of VisualTokens that are there only where they are needed.
_FIELDS = {Needs.PATCH_EMBEDS: "patch_embeds", Needs.CLS_ATTENTION: "cls_attention"}


def fields_of(needs: Needs) -> list[str]:
    """Returns the names of the fields of VisualTokens that are needed, in their order."""
    return [name for need, name in _FIELDS.items() if need in needs]


def if_fewer(needs: Needs) -> dict[str, Needs]:
    """Returns the argument for an encoder of images: none where all is needed, its default."""
    return {} if OF_IMAGE in needs else {"needs": needs}


def needed(value: Tensor | None) -> Tensor:
    """Returns a field of VisualTokens.

    Raises:
        ValueError: the image was encoded without it.
    """
    if value is None:
        raise ValueError("the image was encoded without what is needed of it now")
    return value


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
        patch_embeds: (N, P), every patch in the space shared by image and text, not normalised;
            None where it was not needed.
        cls_attention: (N,) float32, attention of the CLS to each patch; with its attention to
            itself the values sum to 1. None where it was not needed.
    """

    features: Tensor
    patch_embeds: Tensor | None = None
    cls_attention: Tensor | None = None

    def has(self, needs: Needs) -> bool:
        """Returns whether all is there that is needed of an image."""
        return all(getattr(self, name) is not None for name in fields_of(needs))

    @property
    def views(self) -> tuple[View, ...]:
        """The grids that the tokens form."""
        side = math.isqrt(len(self.features))
        return (View(0, side, side),)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it takes."""
        return sum(part.nbytes for part in self._parts().values())

    def clone(self) -> VisualTokens:
        """Returns a copy with memory of its own, free of the batch in which it was encoded."""
        parts = {name: part.clone() for name, part in self._parts().items()}
        return replace(self, **parts)

    def _parts(self) -> dict[str, Tensor]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in found.items() if part is not None}
