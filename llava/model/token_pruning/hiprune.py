"""HiPrune: anchors of a middle layer, their neighbours, and registers (arXiv 2508.00553)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import (
    check_budget,
    check_setting,
    falling,
    members,
    sides_of,
)


@dataclass(frozen=True)
class HiPruneOptions:
    """The settings of HiPrune.

    Attributes:
        alpha: share of K for anchors with their four neighbours.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        check_setting("alpha", self.alpha, 0, 1)


def hiprune(x: Mapping[str, Tensor], budget: int | None, settings: HiPruneOptions) -> list[Choice]:
    """Keeps anchors with their neighbours, then the patches that a deep layer attends to most.

    As in the authors' code, the left neighbour of a row's first patch is the last patch of the row
    above, and the first and last patch are their own outer neighbours; the deep layer fills up to
    K.

    Args:
        x: ``attn_mean_mid`` and ``attn_mean_deep`` (B, N+1), attention that each token receives,
            averaged over heads and queries, of the middle and of the second-to-last layer;
            ``grid`` where N is not a square.
        budget: K, from 1 to N.
        settings: see HiPruneOptions.

    Raises:
        UserError: the budget cannot be met, or the sides of the grid are not known.
    """
    middle, deep = x["attn_mean_mid"][:, 1:], x["attn_mean_deep"][:, 1:]
    num_patches = middle.shape[1]
    columns = sides_of(x, num_patches)[1]
    budget = check_budget(budget, num_patches)
    wanted = round(budget * settings.alpha / 5)
    anchors = falling(middle)[:, : max(0, min(wanted, budget // 5))]
    offsets = torch.tensor([0, -1, 1, -columns, columns], device=anchors.device)
    around = (anchors[..., None] + offsets).clamp(0, num_patches - 1).flatten(1)
    taken = members(around, num_patches)
    # Taken patches come first in this order, so that its first K are these and the registers.
    order = falling(torch.where(taken, torch.inf, deep))[:, :budget]
    kept = order.sort(dim=1).values
    return [
        Choice(one, reasons=tuple("object" if yes else "attention" for yes in is_object))
        for one, is_object in zip(kept, taken.gather(1, kept).tolist())
    ]
