"""VisionZip: dominant tokens by attention, contextual ones by merging (arXiv 2412.04467)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.errors import UserError
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import check_budget, dots, falling, members, picks, rows

# K -> dominant tokens, the CLS token among them, and contextual ones.
PUBLISHED_SPLITS = {192: (162, 30), 128: (108, 20), 64: (54, 10), 32: (27, 5)}


@dataclass(frozen=True)
class VisionZipOptions:
    """The settings of VisionZip.

    Attributes:
        dominant: dominant tokens, the CLS token among them; None: the rest of K.
        contextual: contextual tokens; None: the published number, or 10/64 of K, rounded.
    """

    dominant: int | None = None
    contextual: int | None = None


def visionzip(
    x: Mapping[str, Tensor], budget: int | None, settings: VisionZipOptions
) -> list[Choice]:
    """Keeps the CLS token and the most attended patches, and merges the rest into a few tokens.

    Of the patches that are not dominant, every n-th is a target. Each other one is assigned to the
    target with the most similar key; a contextual token is its target plus the mean of the patches
    assigned to it. The output has K tokens, of which the CLS token is the first.

    Args:
        x: ``attn_cls`` (B, H, N+1), ``keys`` (B, N+1, C) of the same layer and ``hidden``
            (B, N+1, C) after it.
        budget: K, from 1 to N.
        settings: the split of K.

    Raises:
        UserError: the split does not fit K, or the keys the heads.
    """
    attention, keys = x["attn_cls"], x["keys"]
    num_images, num_heads, num_tokens = attention.shape
    if keys.shape[-1] % num_heads:
        raise UserError(f"keys of width {keys.shape[-1]} cannot be cut into {num_heads} heads")
    dominant, contextual = split(budget, (1, num_tokens - 1), settings)
    order = falling(attention[..., 1:].sum(dim=1))[:, : max(0, dominant - 1)]
    rest = (~members(order, num_tokens - 1)).nonzero()[:, 1].view(num_images, -1)
    step = max(1, rest.shape[1] // max(1, contextual))
    is_target = torch.zeros(rest.shape[1], dtype=torch.bool, device=rest.device)
    is_target[::step][:contextual] = True
    targets, merged = rest[:, is_target], rest[:, ~is_target]
    metric = keys.view(num_images, num_tokens, num_heads, -1).mean(dim=2)[:, 1:]
    weights = _contextual_weights(F.normalize(metric, dim=-1), targets, merged).to(keys.dtype)
    tokens = dots(weights, x["hidden"].mT)
    cls = torch.full((num_images, min(1, dominant)), -1, device=order.device)
    kept = torch.cat([cls, order.sort().values], dim=1)
    picked = torch.cat([cls, order], dim=1)
    weights = torch.cat([picks(kept, num_tokens - 1).to(keys.dtype), weights], dim=1)
    anchors = torch.cat([kept, targets], dim=1)
    return [
        Choice(
            kept[b],
            picked[b],
            len(anchors[b]),
            {"contextual": tokens[b]},
            weights[b],
            anchors[b],
        )
        for b in range(num_images)
    ]


def split(
    budget: int | None, sides: tuple[int, int], settings: VisionZipOptions
) -> tuple[int, int]:
    """Returns the numbers of dominant and contextual tokens of a grid, which sum to K.

    Raises:
        UserError: the budget cannot be met, or those of the settings are not K.
    """
    budget = check_budget(budget, sides[0] * sides[1])
    dominant, contextual = settings.dominant, settings.contextual
    if contextual is None:
        usual = PUBLISHED_SPLITS.get(budget, (0, round(10 * budget / 64)))[1]
        contextual = usual if dominant is None else budget - dominant
    dominant = budget - contextual if dominant is None else dominant
    if min(dominant, contextual) < 0 or dominant + contextual != budget:
        raise UserError(
            f"{dominant} dominant and {contextual} contextual tokens are not the {budget} of the "
            "budget: leave the settings dominant and contextual out"
        )
    return dominant, contextual


def _contextual_weights(metric: Tensor, targets: Tensor, merged: Tensor) -> Tensor:
    """Returns weights (B, T, N+1): the targets (B, T) plus the mean of what is merged into each.

    Args:
        metric: (B, N, C) of unit length; each merged patch goes to the target most like it.
        targets, merged: patches, (B, T) and (B, M).
    """
    weights = picks(targets, metric.shape[1])
    if 0 in (targets.shape[1], merged.shape[1]):
        return weights
    nearest = dots(rows(metric, merged), rows(metric, targets)).argmax(dim=2)
    share = F.one_hot(nearest, targets.shape[1]).float().mT
    share /= share.sum(dim=2, keepdim=True).clamp(min=1)
    columns = (merged + 1)[:, None].expand_as(share)
    return weights.scatter_add(2, columns, share)
