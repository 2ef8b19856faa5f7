"""What a pruner is: a pure function from encoded images to the tokens of each that the LLM reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Flag, auto

import torch
from torch import Tensor

from llava.mm_utils import send
from llava.model.multimodal_encoder.visual_tokens import VisualTokens


class Needs(Flag):
    """What a pruner reads beside the grid of the tokens."""

    NOTHING = 0
    PATCH_EMBEDS = auto()
    CLS_ATTENTION = auto()
    QUESTION = auto()


@dataclass(frozen=True)
class Pruned:
    """What stays of one image of N tokens.

    Attributes:
        num_tokens: N.
        kept_idx: (K,) int64 on the CPU, in the order in which the LLM reads them. Of tokens that
            were merged, the one that stands for the others.
        reasons: K words for pictures: why each was kept.
        weights: (K, N) float32, the share of each token in what the LLM reads; None picks.
        reads_question: whether the question had a say; where it had none, what the LLM has read
            of the image serves other questions too.
        details: what the pruner itself has to say, for traces.
    """

    num_tokens: int
    kept_idx: Tensor
    reasons: tuple[str, ...]
    weights: Tensor | None = None
    reads_question: bool = False
    details: object | None = None

    @property
    def dropped_idx(self) -> Tensor:
        """(N - K,) int64, rising."""
        dropped = torch.ones(self.num_tokens, dtype=torch.bool)
        dropped[self.kept_idx] = False
        return dropped.nonzero().squeeze(-1)

    def apply(self, features: Tensor) -> Tensor:
        """Returns what the LLM reads of an image's features (N, C), on any device: (K, C)."""
        if self.weights is None:
            return features[send(self.kept_idx, features.device)]
        weights = self.weights.to(features.device)
        return (weights @ features.float()).to(features.dtype)


@dataclass(frozen=True)
class NoOptions:
    """The options of a pruner that has none."""


@dataclass(frozen=True)
class Pruner:
    """A way to choose tokens, as the registry has it.

    Attributes:
        name: what users call it.
        select: select(images, texts, budgets, options, generators) gives a Pruned for each of B
            images. Of texts, (P,) float32 of unit length, those are None that nobody needs;
            options are of the type below; a generator is drawn from where chance decides.
        needs: what it reads.
        options: a frozen dataclass; its fields are the pruner's settings.
        paper: where it is published.
    """

    name: str
    select: Callable[..., list[Pruned]]
    needs: Needs = Needs.NOTHING
    options: type = NoOptions
    paper: str = ""


@dataclass(frozen=True)
class Pruning:
    """How one image is to be pruned.

    Attributes:
        pruner: which.
        num_tokens: K, how many tokens the LLM is to read.
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
    """Prunes B images, those with one pruner in one batch: the door for model and training."""
    found: dict[int, Pruned] = {}
    for name in dict.fromkeys(pruning.pruner.name for pruning in prunings):
        places = [b for b, pruning in enumerate(prunings) if pruning.pruner.name == name]
        select = prunings[places[0]].pruner.select
        columns = (
            images,
            texts,
            [pruning.num_tokens for pruning in prunings],
            [pruning.options for pruning in prunings],
            generators,
        )
        pruned = select(*([column[b] for b in places] for column in columns))
        found |= dict(zip(places, pruned))
    return [found[b] for b in range(len(images))]
