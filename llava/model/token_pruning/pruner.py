"""A pruner: a pure function from encoded images to the tokens of each that the LLM reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from llava.mm_utils import send
from llava.model.multimodal_encoder.view_values import values_of
from llava.model.multimodal_encoder.visual_tokens import (
    OF_QUESTION,
    Needs,
    Projected,
    VisualTokens,
    needed,
)
from llava.model.token_pruning.layer_pruner import LayerPlan, LayerPruner
from llava.model.token_pruning.views import Parts, joined, without_cls

CLS = -1  # the index of the CLS token, which some pruners keep


@dataclass(frozen=True, eq=False)
class Query:
    """The values of a question that pruners read; those that are not needed are None.

    Attributes:
        text_embed: (P,) float32 of unit length, in the space shared by image and text.
        text_embeds: (M, P) float32, not normalised: one for each segment of the question, which
            CLIP's text tower reads segment by segment to its end.
        words: (T, D), the LLM's input embeddings of the question's words without stop words.
    """

    text_embed: Tensor | None = None
    text_embeds: Tensor | None = None
    words: Tensor | None = None


@dataclass(frozen=True)
class Pruned:
    """The tokens to keep of one image of N tokens.

    Attributes:
        num_tokens: N.
        kept_idx: (K,) int64 on the CPU, in the order in which the LLM reads them; CLS is the CLS
            token. Merged tokens have the index of the one that stands for the others.
        reasons: K words for pictures: why each token was kept.
        weights: (K, N+1) float32, the share of the CLS token and of each of the N in what the LLM
            reads; None: no merging.
        reads_question: whether the choice depends on the question; if not, other questions can use
            the keys and values of the image.
        details: the pruner's own record, for traces.
        is_projected: whether the weights apply to features after the projector.
        plan: how the layers of the LLM drop more of them; None: all layers read the K tokens.
    """

    num_tokens: int
    kept_idx: Tensor
    reasons: tuple[str, ...]
    weights: Tensor | None = None
    reads_question: bool = False
    details: Any = None
    is_projected: bool = False
    plan: LayerPlan | None = None

    @property
    def mean_tokens(self) -> float:
        """The mean over the LLM's layers of the visual tokens that they read."""
        return len(self.kept_idx) if self.plan is None else self.plan.mean_tokens

    @property
    def described_idx(self) -> Tensor:
        """The tokens that a compensation describes, int64, rising: the dropped ones.

        All tokens if the LLM drops some, because these are not known before it runs.
        """
        return self.dropped_idx if self.plan is None else torch.arange(self.num_tokens)

    @property
    def is_settled(self) -> bool:
        """Whether tokens were dropped before the LLM, and the LLM drops none."""
        return self.plan is None and len(self.dropped_idx) > 0

    @property
    def dropped_idx(self) -> Tensor:
        """The indices of the dropped tokens, int64, rising; N - K of them without the CLS token."""
        dropped = torch.ones(self.num_tokens, dtype=torch.bool)
        dropped[self.kept_idx[self.kept_idx != CLS]] = False
        return dropped.nonzero().squeeze(-1)

    def visible(self, image: VisualTokens) -> Tensor | Projected:
        """Returns the K tokens of the image for the LLM, before or after the projector."""
        if self.is_projected:
            return Projected(self.apply(needed(image.projected)))
        return self.apply(image.features, image.cls_feature)

    def apply(self, features: Tensor, cls_feature: Tensor | None = None) -> Tensor:
        """Returns K tokens (K, C) from an image's features (N, C), on any device.

        Args:
            features: of the N tokens.
            cls_feature: (C,), the feature of the CLS token; needed only if that is kept.
        """
        has_cls = bool((self.kept_idx == CLS).any())
        if self.weights is None:
            idx = self.kept_idx
            if has_cls:
                features, idx = torch.cat([needed(cls_feature)[None], features]), idx + 1
            return features[send(idx, features.device)]
        weights = self.weights.to(features.device)
        mixed = weights[:, 1:].contiguous() @ features.float()
        if has_cls:
            mixed += weights[:, :1] * needed(cls_feature).float()
        return mixed.to(features.dtype)


@dataclass(frozen=True)
class NoOptions:
    """The options of a pruner that has none."""


@dataclass(frozen=True)
class Pruner:
    """A pruner as the registry lists it.

    Attributes:
        name: the name for users.
        select: select(images, queries, budgets, options, generators) returns a Pruned for each of B
            images. Options have the type below; generators are for random choices.
        needs: the inputs that it reads.
        options: a frozen dataclass; its fields are the pruner's settings.
        paper: where it is published.
        check: check(budget, sides, options) raises a UserError if the pruner cannot meet a budget
            in a grid of those sides; None: it meets every budget.
        layers: its part inside the LLM, whose first layer reads the tokens that select keeps; None
            for a pruner that works only before the LLM.
        by_view: whether it reads the tokens as a grid, and prunes each view of an image by itself.
    """

    name: str
    select: Callable[..., list[Pruned]]
    needs: Needs = Needs.NOTHING
    options: type = NoOptions
    paper: str = ""
    check: Callable[[int, tuple[int, int], Any], object] | None = None
    layers: LayerPruner | None = None
    by_view: bool = False

    @property
    def reads_question(self) -> bool:
        """Whether it reads the question in any form, as every pruner inside the LLM does."""
        return bool(self.needs & OF_QUESTION) or self.layers is not None

    @property
    def option_names(self) -> set[str]:
        """The names of its settings."""
        return {field.name for field in fields(self.options)}


@dataclass(frozen=True)
class Pruning:
    """How one image is to be pruned.

    Attributes:
        pruner: the pruner.
        num_tokens: K, the number of tokens for the LLM. With the option "published" the pruner
            gives as many as its authors' code instead.
        options: of the pruner's own type.
        plan: how the layers of the LLM drop more of these tokens; None: they drop none.
        parts: the views of the image with the number of tokens of each, where each is pruned by
            itself; empty: all tokens are chosen from at once.
    """

    pruner: Pruner
    num_tokens: int
    options: Any
    plan: LayerPlan | None = None
    parts: Parts = ()

    def most_tokens(self, num_patches: int) -> int:
        """Returns the largest number of tokens that the pruner may give of N.

        That is K, or N and the CLS token where the pruner gives its authors' number.
        """
        is_exact = self.plan is not None or not getattr(self.options, "published", False)
        return self.num_tokens if is_exact else num_patches + 1

    def planned(self, pruned: Pruned) -> Pruned:
        """Returns the tokens kept before the LLM, with the plan for its layers."""
        if self.plan is None:
            return pruned
        plan = replace(self.plan, first=len(pruned.kept_idx))
        return replace(pruned, plan=plan, reads_question=True)


def prune(
    images: Sequence[VisualTokens],
    queries: Sequence[Query],
    prunings: Sequence[Pruning],
    generators: Sequence[torch.Generator],
) -> list[Pruned]:
    """Prunes B images: the entry point for model and training.

    A pruner gets the images of one number of tokens in one batch.
    """
    budgets = [pruning.num_tokens for pruning in prunings]
    columns = (images, queries, budgets, [pruning.options for pruning in prunings], generators)
    found: dict[int, Pruned] = {}
    groups: dict[tuple[str, int], list[int]] = {}
    for b, (image, pruning) in enumerate(zip(images, prunings)):
        if pruning.parts:
            found[b] = _prune_views(image, queries[b], pruning, generators[b])
        else:
            groups.setdefault((pruning.pruner.name, len(image.features)), []).append(b)
    for places in groups.values():
        select = prunings[places[0]].pruner.select
        pruned = select(*([column[b] for b in places] for column in columns))
        found |= {b: prunings[b].planned(one) for b, one in zip(places, pruned)}
    return [found[b] for b in range(len(images))]


def _prune_views(
    image: VisualTokens, query: Query, pruning: Pruning, generator: torch.Generator
) -> Pruned:
    """Prunes the views of an image one by one; its random draws go through them in order."""
    views = [view for view, _ in pruning.parts]
    found = []
    for number, (view, budget) in enumerate(pruning.parts):
        size = view.rows * view.columns
        if budget in (0, size):
            found.append(Pruned(size, torch.arange(budget), ("whole view",) * budget))
            continue
        asked = ([values_of(image, view)], [query], [budget], [pruning.options], [generator])
        (one,) = pruning.pruner.select(*asked)
        num_cls = int((one.kept_idx == CLS).sum())
        if number and num_cls:  # the CLS token is the image's: a tile keeps a patch in its place
            asked[2][0] += num_cls
            one = without_cls(*pruning.pruner.select(*asked))
        found.append(one)
    return joined(views, found, len(image.features))
