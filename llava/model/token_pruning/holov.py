"""HoloV: the budget is spread over crops of the image (NeurIPS 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import check_budget, check_setting, falling


@dataclass(frozen=True)
class HoloVOptions:
    """The settings of HoloV.

    Attributes:
        num_patches: number of crops, which are runs of patches.
        alpha: weight of the variance of similarity inside a crop; see holov.
        published: as in the authors' code, places that a crop cannot fill become vectors of zeros
            (the pipeline leaves them out), and a crop that is kept whole stays in its own order.
    """

    num_patches: int = 16
    alpha: float = 0.09
    published: bool = False

    def __post_init__(self) -> None:
        check_setting("num_patches", self.num_patches, 1)


def holov(x: Mapping[str, Tensor], budget: int | None, settings: HoloVOptions) -> list[Choice]:
    """Keeps the most attended patches of each crop, in proportion to the crop's attention.

    A crop's share of K is rounded down; the missing tokens go to the crops with the most attention,
    one each. If a crop has fewer patches than its share, the most attended of the other patches
    take their place.

    The published score of a patch adds alpha times the variance of its similarity to its crop,
    scaled to the crop's mean attention. Summed over a crop, this is 1 + alpha times the attention:
    it changes no share, so neither it nor the features are used here.

    Args:
        x: ``attn_cls`` (B, H, N+1).
        budget: K, from 1 to N.
        settings: see HoloVOptions.

    Returns:
        Choices with the patches crop by crop, in each crop by falling attention.

    Raises:
        UserError: the budget cannot be met.
    """
    attention = x["attn_cls"][..., 1:].float().mean(dim=1)
    num_patches = attention.shape[1]
    budget = check_budget(budget, num_patches)
    num_crops = max(1, min(settings.num_patches, num_patches))
    crop = torch.arange(num_patches, device=attention.device) * num_crops // num_patches
    shares = _shares(attention, crop.expand_as(attention), num_crops, budget)
    order = falling(attention)
    order = order.gather(1, crop[order].argsort(dim=1, stable=True))  # crop after crop
    starts = crop.bincount().cumsum(0).roll(1)
    starts[0] = 0
    rank = torch.arange(num_patches, device=crop.device) - starts[crop]
    has_share = rank < shares[:, crop]
    if settings.published:
        is_full = (shares >= crop.bincount())[:, crop]
        ascending = torch.arange(num_patches, device=crop.device)
        order = torch.where(is_full, ascending, order)
        kept = [one[chosen] for one, chosen in zip(order, has_share)]
    else:  # first the patches of the shares, then others by attention
        scores = attention.gather(1, order).masked_fill(has_share, torch.inf)
        places = falling(scores)[:, :budget].sort(dim=1).values
        kept = list(order.gather(1, places))
    return [Choice(one, one, budget) for one in kept]


def _shares(attention: Tensor, crop: Tensor, num_crops: int, budget: int) -> Tensor:
    """Returns how many of K tokens (B, crops) int64 each crop has; K in all."""
    sums = attention.new_zeros(len(attention), num_crops).scatter_add(1, crop, attention)
    shares = (sums / sums.sum(dim=1, keepdim=True) * budget).floor().long()
    missing = budget - shares.sum(dim=1, keepdim=True)
    return shares + (falling(sums).argsort(dim=1) < missing)
