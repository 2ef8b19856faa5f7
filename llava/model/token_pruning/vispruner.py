"""VisPruner: important patches by attention, diverse ones by removal (arXiv 2412.01818v2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import (
    check_budget,
    check_setting,
    cosines,
    falling,
    members,
)


@dataclass(frozen=True)
class VisPrunerOptions:
    """The settings of VisPruner.

    Attributes:
        important_ratio: share of K that is chosen by attention.
        r: the largest number of patches that a round removes.
    """

    important_ratio: float = 0.5
    r: int = 8

    def __post_init__(self) -> None:
        check_setting("important_ratio", self.important_ratio, 0, 1)
        check_setting("r", self.r, 1)


def vispruner(
    x: Mapping[str, Tensor], budget: int | None, settings: VisPrunerOptions
) -> list[Choice]:
    """Keeps the most attended patches, and others that remain after similar ones are removed.

    In each round the other patches are split into those at even and at odd places of their current
    order. Up to r even ones, those most similar to an odd one, are removed; the remaining even ones
    follow by falling similarity, and then the odd ones. An odd number has one more even place; the
    authors' code fails on it.

    Args:
        x: ``attn_cls`` (B, H, N+1), ``hidden`` (B, N+1, C).
        budget: K, from 1 to N.
        settings: see VisPrunerOptions.

    Raises:
        UserError: the budget cannot be met.
    """
    attention = x["attn_cls"][..., 1:].mean(dim=1)
    budget = check_budget(budget, attention.shape[1])
    num_important = int(budget * settings.important_ratio)
    order = falling(attention)
    important, rest = order[:, :num_important], order[:, num_important:]
    if num_important < budget:
        rest = _diverse(cosines(x["hidden"][:, 1:]), rest, budget - num_important, settings.r)
        picked = torch.cat([important, rest], dim=1)
    else:
        picked = important
    kept = picked.sort(dim=1).values
    is_important = members(important, attention.shape[1]).gather(1, kept).tolist()
    return [
        Choice(
            kept[b],
            picked[b],
            reasons=tuple("attention" if yes else "diverse" for yes in is_important[b]),
        )
        for b in range(len(kept))
    ]


def _diverse(similarity: Tensor, rest: Tensor, count: int, most: int) -> Tensor:
    """Returns count of the patches (B, M) of rest, by their similarity (B, N, N)."""
    images = torch.arange(len(rest), device=rest.device)[:, None, None]
    while rest.shape[1] > count:
        even, odd = rest[:, ::2], rest[:, 1::2]
        best = similarity[images, even[:, :, None], odd[:, None, :]].amax(dim=2)
        removed = min(most, rest.shape[1] - count, even.shape[1])
        stay = even.gather(1, falling(best)[:, removed:])
        rest = torch.cat([stay, odd], dim=1)
    return rest
