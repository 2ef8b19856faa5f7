"""A pruner: a pure function from encoded images to the tokens of each that the LLM reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from llava.mm_utils import send
from llava.model.multimodal_encoder.visual_tokens import Needs, VisualTokens


@dataclass(frozen=True)
class Pruned:
    """The tokens that stay of one image of N tokens.

    Attributes:
        num_tokens: N.
        kept_idx: (K,) int64 on the CPU, in the order in which the LLM reads them. Of tokens that
            were merged, the one that stands for the others.
        reasons: K words for pictures: why each token was kept.
        weights: (K, N) float32, the share of each token in what the LLM reads; None: no merging.
        reads_question: whether the choice depends on the question; where not, the keys and values
            of the image serve other questions too.
        details: the pruner's own record, for traces.
    """

    num_tokens: int
    kept_idx: Tensor
    reasons: tuple[str, ...]
    weights: Tensor | None = None
    reads_question: bool = False
    details: Any = None

    @property
    def dropped_idx(self) -> Tensor:
        """The indices (N - K,) int64 of the dropped tokens, rising."""
        dropped = torch.ones(self.num_tokens, dtype=torch.bool)
        dropped[self.kept_idx] = False
        return dropped.nonzero().squeeze(-1)

    def apply(self, features: Tensor) -> Tensor:
        """Returns the features (K, C) for the LLM from an image's (N, C), on any device."""
        if self.weights is None:
            return features[send(self.kept_idx, features.device)]
        weights = self.weights.to(features.device)
        return (weights @ features.float()).to(features.dtype)


@dataclass(frozen=True)
class NoOptions:
    """The options of a pruner that has none."""


@dataclass(frozen=True)
class Pruner:
    """A pruner as the registry lists it.

    Attributes:
        name: as users give it.
        select: select(images, texts, budgets, options, generators) gives a Pruned for each of B
            images. Of texts, (P,) float32 of unit length, those that are not needed are None;
            options are of the type below; generators are for random choices.
        needs: the inputs that it reads.
        options: a frozen dataclass; its fields are the pruner's settings.
        paper: where it is published.
    """

    name: str
    select: Callable[..., list[Pruned]]
    needs: Needs = Needs.NOTHING
    options: type = NoOptions
    paper: str = ""

    @property
    def option_names(self) -> set[str]:
        """The names of its settings."""
        return {field.name for field in fields(self.options)}


@dataclass(frozen=True)
class Pruning:
    """How one image is to be pruned.

    Attributes:
        pruner: the pruner.
        num_tokens: K, the number of tokens that the LLM is to read.
        options: of the pruner's own type.
    """

    pruner: Pruner
    num_tokens: int
    options: object


def prune(
    images: Sequence[VisualTokens],
    texts: Sequence[Tensor | None],
    prunings: Sequence[Pruning],
    generators: Sequence[torch.Generator],
) -> list[Pruned]:
    """Prunes B images, each pruner's in one batch: the entry point for model and training."""
    budgets = [pruning.num_tokens for pruning in prunings]
    columns = (images, texts, budgets, [pruning.options for pruning in prunings], generators)
    found: dict[int, Pruned] = {}
    for name in dict.fromkeys(pruning.pruner.name for pruning in prunings):
        places = [b for b, pruning in enumerate(prunings) if pruning.pruner.name == name]
        select = prunings[places[0]].pruner.select
        pruned = select(*([column[b] for b in places] for column in columns))
        found |= dict(zip(places, pruned))
    return [found[b] for b in range(len(images))]
