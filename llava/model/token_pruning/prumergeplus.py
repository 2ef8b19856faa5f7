"""PruMerge+: PruMerge with an even grid as further centres (arXiv 2403.15388)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import check_budget
from llava.model.token_pruning.prumerge import (
    Keyed,
    PruMergeOptions,
    centre_ratio,
    keyed_images,
    merged,
    other_patches,
)


def prumergeplus(
    x: Mapping[str, Tensor], budget: int | None, settings: PruMergeOptions
) -> list[Choice]:
    """Keeps outliers and a grid, adds to each its most similar tokens, and sums up the rest.

    Args:
        x: ``query_cls`` (B, C) and ``keys`` (B, N+1, C) of the last layer, ``hidden`` (B, N+1, C).
        budget: K, from 1 to N: the outliers, at most K - 1; as many of the other patches as are
            missing, evenly spaced; and a token for the rest. None: the authors' number.
        settings: see PruMergeOptions.

    Raises:
        UserError: the budget cannot be met.
    """
    choices = []
    for image in keyed_images(x):
        if budget is None or settings.published:
            centres = _published_centres(image, settings)
        else:
            num_centres = check_budget(budget, len(image.order)) - 1
            centres = image.order[: min(num_centres, image.outliers)]
            others = other_patches(centres, len(image.order))
            missing = num_centres - len(centres)
            middles = (
                (2 * torch.arange(missing, device=others.device) + 1)
                * len(others)
                // (2 * max(1, missing))
            )
            centres = torch.cat([centres, others[middles]])
        choices.append(merged(image, centres, settings.neighbours))
    return choices


def _published_centres(image: Keyed, settings: PruMergeOptions) -> Tensor:
    """Returns the centres of the authors' code.

    There an adaptive grid has three times as many patches as there are outliers, never the last
    one, and leaves out those that are outliers. With a fixed number, a patch of the grid that is
    also a centre occurs twice.
    """
    n, ratio = len(image.order), centre_ratio(image, settings)
    centres = image.order[: int(n * ratio)]
    step = int(1 / ratio) if ratio > 1 / n else n
    if not settings.adaptive:
        return torch.cat([centres, torch.arange(step // 2, n, step, device=centres.device)])
    grid = torch.arange(0, n - 1, max(1, step // 3), device=centres.device)
    return torch.cat([centres, grid[~torch.isin(grid, centres)]])
