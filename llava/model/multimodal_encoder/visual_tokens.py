"""The tower's outputs for one image: its visual tokens, and the values that pruners read."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import Flag, auto

import torch
from torch import Tensor


class Needs(Flag):
    """The values that a pruner or a compensation reads in addition to the grid of the tokens.

    Values of an image are named as the fields of VisualTokens, values of a question as the fields
    of Query.
    """

    NOTHING = 0
    PATCH_EMBEDS = auto()
    CLS_ATTENTION = auto()
    QUESTION = auto()
    CLS_FEATURE = auto()
    HEAD_ATTENTION = auto()
    MIDDLE_HEAD_ATTENTION = auto()
    RECEIVED = auto()
    MIDDLE_RECEIVED = auto()
    KEYS = auto()
    LAST_KEYS = auto()
    LAST_QUERY = auto()
    FEATURE_EMBEDS = auto()
    PROJECTED = auto()
    TEXT_EMBEDS = auto()
    WORDS = auto()


# The values that the vision tower computes in addition to the features by default.
OF_IMAGE = Needs.PATCH_EMBEDS | Needs.CLS_ATTENTION
OF_QUESTION = Needs.QUESTION | Needs.TEXT_EMBEDS | Needs.WORDS


def each_of(needs: Needs) -> list[Needs]:
    """Returns the single needs of an image, in the order in which the tower gives them."""
    return [need for need in Needs if need.value and need in needs and need not in OF_QUESTION]


def fields_of(needs: Needs) -> list[str]:
    """Returns the names of the fields of VisualTokens that are needed, in their order."""
    return [str(need.name).lower() for need in each_of(needs)]


def if_fewer(needs: Needs) -> dict[str, Needs]:
    """Returns the keyword argument for an encoder of images; empty if it is the default."""
    of_image = needs & ~OF_QUESTION
    return {} if of_image == OF_IMAGE else {"needs": of_image}


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

    LLaVA-1.5 has one; an image that is cut into tiles has several.

    Attributes:
        start: the index of its first token.
        rows, columns: its sides, in patches.
        stride: the distance of the first tokens of two rows; None: the columns, as rows follow one
            another unless the grid is a part of a wider one.
    """

    start: int
    rows: int
    columns: int
    stride: int | None = None

    @property
    def idx(self) -> Tensor:
        """The indices of its tokens, (rows * columns,) int64, row by row."""
        rows = self.start + self.row_stride * torch.arange(self.rows)
        return (rows[:, None] + torch.arange(self.columns)).flatten()

    @property
    def row_stride(self) -> int:
        """The distance of the first tokens of two rows."""
        return self.columns if self.stride is None else self.stride


@dataclass(frozen=True, eq=False)
class Projected:
    """Visual tokens (K, D) that have passed the projector: the LLM's input embeddings."""

    tokens: Tensor


@dataclass(frozen=True, eq=False)  # compared by identity, to be a key of values computed from it
class VisualTokens:
    """The visual tokens of one image of N patches; values that were not needed are None.

    The layer of the features is the one whose output they are (LLaVA-1.5: 23 of 24). Papers name
    layers of the 24 of CLIP ViT-L; layer_of gives the corresponding layers of a tower of L layers.

    Attributes:
        features: (N, C), a hidden layer (LLaVA-1.5: the one before the last) without the CLS,
            the projector's input.
        patch_embeds: (N, P), every patch in the space shared by image and text, not normalised.
        cls_attention: (N,) float32, attention of the CLS to each patch; with its attention to
            itself the values sum to 1. All heads taken together; see class_attention.
        cls_feature: (C,), the CLS token of the features' layer.
        head_attention: (H, N+1) float32, the attention of the CLS in each head inside the features'
            layer, to itself first.
        middle_head_attention: the same inside layer 6 of 24.
        received: (N+1,) float32, the attention that each token receives inside the features' layer,
            averaged over heads and queries, the CLS first.
        middle_received: the same inside layer 9 of 24.
        keys: (N+1, C), the keys inside the features' layer, all heads side by side.
        last_keys: (N+1, C), those inside the tower's last layer.
        last_query: (C,), the query of the CLS inside the last layer.
        feature_embeds: (N, P), as patch_embeds, but of the features, by the final layer norm.
        projected: (N, D), the features after the projector.
        side_embeds: (M, P), the patches of a CLIP beside the model's own tower, as patch_embeds.
        side_idx: (M,) int64 on the CPU, the token at the place of each such patch; -1: none.
        patch_idx: (N,) int64 on the CPU, the patch at the place of each token.
        grids: the grids that the tokens form; None: one square. Read them as views.
    """

    features: Tensor
    patch_embeds: Tensor | None = None
    cls_attention: Tensor | None = None
    cls_feature: Tensor | None = None
    head_attention: Tensor | None = None
    middle_head_attention: Tensor | None = None
    received: Tensor | None = None
    middle_received: Tensor | None = None
    keys: Tensor | None = None
    last_keys: Tensor | None = None
    last_query: Tensor | None = None
    feature_embeds: Tensor | None = None
    projected: Tensor | None = None
    side_embeds: Tensor | None = None
    side_idx: Tensor | None = None
    patch_idx: Tensor | None = None
    grids: tuple[View, ...] | None = None

    def has(self, needs: Needs) -> bool:
        """Returns whether the image has all needed values."""
        return all(getattr(self, name) is not None for name in fields_of(needs))

    @property
    def views(self) -> tuple[View, ...]:
        """The grids that the tokens form; together they have every token once."""
        if self.grids is not None:
            return self.grids
        side = math.isqrt(len(self.features))
        return (View(0, side, side),)

    @property
    def num_described(self) -> int:
        """The number of its tokens, from the first, that texts are written of.

        Of several views they are those of the first, which shows the whole image.
        """
        first, *others = self.views
        return first.rows * first.columns if others else len(self.features)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it takes."""
        return sum(part.nbytes for part in self._parts().values())

    def clone(self) -> VisualTokens:
        """Returns a copy with memory of its own, independent of the batch of its encoding."""
        parts = {name: part.clone() for name, part in self._parts().items()}
        return replace(self, **parts)

    def _parts(self) -> dict[str, Tensor]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in found.items() if isinstance(part, Tensor)}
