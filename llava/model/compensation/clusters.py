"""Assigns each dropped token to a kept one, for compensations without words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.mm_utils import send
from llava.model.multimodal_encoder.visual_tokens import VisualTokens, needed
from llava.model.token_pruning.pruner import Pruned


@dataclass(frozen=True)
class Clusters:
    """The kept tokens of an image, each with the dropped tokens that are most like it.

    Attributes:
        kept: (K, C) float32, the kept tokens as the LLM would read them, before or after the
            projector.
        own_sizes: (K,) float32, the number of tokens that each stands for by its pruner: 1, or
            those that the pruner merged into it.
        joined: (K, C) float32, the sum of the dropped tokens of each.
        num_joined: (K,) float32, their number.
    """

    kept: Tensor
    own_sizes: Tensor
    joined: Tensor
    num_joined: Tensor

    @property
    def sizes(self) -> Tensor:
        """The number (K,) float32 of tokens that each kept one stands for."""
        return self.own_sizes + self.num_joined


def clusters_of(image: VisualTokens, pruned: Pruned) -> Clusters:
    """Gives each dropped token of an image to the kept one with the highest cosine to it.

    Cosines are of the tower's features, in float32; if the pruner merges tokens after the
    projector, of the features after it. Among kept tokens with equal cosines the first gets the
    token. Tokens that the pruner itself merged are already part of their kept tokens.
    """
    tokens = needed(image.projected) if pruned.is_projected else image.features
    kept = pruned.apply(tokens, image.cls_feature).float()
    left = tokens[send(_left_idx(pruned), tokens.device)].float()
    cosines = F.normalize(left, dim=-1) @ F.normalize(kept, dim=-1).T
    # One row for each kept token. A product sums in one order, which atomic additions do not.
    owned = F.one_hot(cosines.argmax(dim=-1), len(kept)).T.float()
    own_sizes = torch.ones(len(kept), device=kept.device)
    if pruned.weights is not None:
        merged = (pruned.weights != 0).sum(dim=1).clamp(min=1)
        own_sizes = merged.to(own_sizes)
    return Clusters(kept, own_sizes, owned @ left, owned.sum(dim=1))


def _left_idx(pruned: Pruned) -> Tensor:
    """Returns the rising indices (M,) int64 of the tokens that are not part of a kept one."""
    left = torch.zeros(pruned.num_tokens, dtype=torch.bool)
    left[pruned.dropped_idx] = True
    if pruned.weights is not None:
        left &= (pruned.weights[:, 1:] == 0).all(dim=0).cpu()
    return left.nonzero().squeeze(-1)
