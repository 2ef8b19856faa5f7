"""VScan, first stage: a global and a local scan, and merging (arXiv 2505.22654)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import (
    check_budget,
    check_setting,
    dots,
    falling,
    members,
    rows,
    sides_of,
)


@dataclass(frozen=True)
class VScanOptions:
    """The settings of VScan's first stage.

    Attributes:
        global_ratio: share of K for the global scan.
        window: side of a window of the local scan in patches; None: a quarter of the grid's longer
            side.
        published: give as many tokens as the authors' code: fewer than K if the local share is not
            a multiple of the number of windows.
    """

    global_ratio: float = 0.5
    window: int | None = None
    published: bool = False

    def __post_init__(self) -> None:
        check_setting("global_ratio", self.global_ratio, 0, 1)
        check_setting("window", 1 if self.window is None else self.window, 1)


def vscan(x: Mapping[str, Tensor], budget: int | None, settings: VScanOptions) -> list[Choice]:
    """Keeps the most attended patches of every window and of the image, and merges the others.

    The local scan takes equally many patches from each window, by a middle layer; the global scan
    takes the rest of K from the others, by the second-to-last layer. Every dropped patch is
    assigned to the kept one with the most similar projected features; a token is the mean of its
    patches.

    Args:
        x: ``attn_cls_mid`` and ``attn_cls`` (B, H, N+1), ``projected`` (B, N, D); ``grid``
            where N is not a square.
        budget: K, from 1 to N.
        settings: see VScanOptions.

    Raises:
        UserError: the budget cannot be met, or the sides of the grid are not known.
    """
    middle, deep = (x[name][..., 1:].mean(dim=1) for name in ("attn_cls_mid", "attn_cls"))
    num_patches = middle.shape[1]
    budget = check_budget(budget, num_patches)
    share = int(budget * (1 - settings.global_ratio))
    local = _local_scan(middle, share, settings.window, sides_of(x, num_patches))
    num_global = budget - (share if settings.published else local.shape[1])
    left = deep.masked_fill(members(local, num_patches), -torch.inf)
    kept = torch.cat([local, falling(left)[:, :num_global]], dim=1).sort(dim=1).values
    weights = _weights(x["projected"], kept)
    tokens = dots(weights, x["projected"].mT)
    return [
        Choice(one, arrays={"merged": merged}, weights=F.pad(shares, (1, 0)))
        for one, merged, shares in zip(kept, tokens, weights)
    ]


def _local_scan(attention: Tensor, share: int, side: int | None, sides: tuple[int, int]) -> Tensor:
    """Returns the most attended patches of every window, equally many and at most share in all."""
    num_patches = attention.shape[1]
    longer, columns = max(sides), sides[1]
    side = max(1, round(longer / 4)) if side is None else min(side, longer)
    down, across = (-(-length // side) for length in sides)  # windows at the edges may be smaller
    place = torch.arange(num_patches, device=attention.device)
    window = place // columns // side * across + place % columns // side
    order = falling(attention)
    by_window = order.gather(1, window[order].argsort(dim=1, stable=True))
    starts = window.bincount().cumsum(0).roll(1)
    starts[0] = 0
    rank = place - starts[window[by_window[0]]]
    return by_window[:, rank < share // (down * across)]


def _weights(features: Tensor, kept: Tensor) -> Tensor:
    """Returns the weights (B, K, N) of means over each kept patch and those assigned to it."""
    num_patches = features.shape[1]
    unit = F.normalize(features, dim=-1)
    nearest = dots(unit, rows(unit, kept)).argmax(dim=2)
    is_dropped = ~members(kept, num_patches)
    share = (F.one_hot(nearest, kept.shape[1]) * is_dropped[..., None]).mT
    share = share + F.one_hot(kept, num_patches)
    return share.to(features.dtype) / share.sum(dim=2, keepdim=True)
