"""MustDrop's stage in the tower: windows of similar patches are merged (arXiv 2411.10803)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.errors import UserError
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import check_budget, check_setting, columns_of, falling, picks


@dataclass(frozen=True)
class MustDropOptions:
    """The settings of MustDrop's stage in the tower.

    Attributes:
        threshold: without a budget, windows of at least this mean cosine are merged.
        window: side of a window in patches.
        published: give as many tokens as the code of LightCompress, the CLS token among them.
    """

    threshold: float = 0.6
    window: int = 3
    published: bool = False

    def __post_init__(self) -> None:
        check_setting("window", self.window, 2)


def mustdrop(
    x: Mapping[str, Tensor], budget: int | None, settings: MustDropOptions
) -> list[Choice]:
    """Merges the windows of the grid with the most similar patches, each into its mean.

    A merged window has the place of its last patch. With a budget, windows are merged as long as at
    least K tokens are left, and then the patches of the next window that are most similar to it,
    until K are left. If there are more windows than K, larger windows are used. The published code
    merges (N+1-K)/8 windows, rounded down, and merged tokens come first, by falling similarity.

    Args:
        x: ``hidden`` (B, N+1, C). N is a square.
        budget: K, from 1 to N; None: as many as the threshold leaves.
        settings: see MustDropOptions.

    Raises:
        UserError: the budget cannot be met, or the grid cannot be cut into windows.
    """
    hidden = x["hidden"]
    num_patches = hidden.shape[1] - 1
    is_exact = budget is not None and not settings.published
    windows = _windows(num_patches, window_side(budget, num_patches, settings)).to(hidden.device)
    unit = F.normalize(hidden[:, 1:], dim=-1)[:, windows]  # (B, windows, patches of one, C)
    likeness = (unit @ unit.sum(dim=2)[..., None]).squeeze(-1) - 1
    size = windows.shape[1]
    scores = likeness.sum(dim=2) / max(1, size * (size - 1))
    choices = []
    for b, order in enumerate(falling(scores)):
        partial = 0
        if budget is None:
            full = int((scores[b] >= settings.threshold).sum())
        elif settings.published:
            full = (num_patches + 1 - check_budget(budget, num_patches)) // (size - 1)
        else:
            full, partial = divmod(num_patches - budget, max(1, size - 1))
        groups = list(windows[order[:full]])
        if partial:
            alike = falling(likeness[b, order[full]])[: partial + 1]
            groups.append(windows[order[full]][alike].sort().values)
        choices.append(_merged(hidden[b], groups, is_exact))
    return choices


def window_side(budget: int | None, num_patches: int, settings: MustDropOptions) -> int:
    """Returns the smallest divisor of the grid's side, from `window` on, with at most K windows.

    Raises:
        UserError: the grid cannot be cut into windows.
    """
    columns, side = columns_of(num_patches), settings.window
    most = num_patches if budget is None else check_budget(budget, num_patches)
    sides = range(side, columns + 1)
    if budget is None or settings.published:
        most, sides = num_patches, range(side, side + 1)
    fitting = [s for s in sides if 1 < s and columns % s == 0 and (columns // s) ** 2 <= most]
    if not fitting:
        raise UserError(f"a grid of {columns} x {columns} cannot be cut into windows of {side}")
    return fitting[0]


def _windows(num_patches: int, side: int) -> Tensor:
    """Returns the patches (windows, side x side) int64 of each window of a square grid."""
    across = columns_of(num_patches) // side
    grid = torch.arange(num_patches).view(across, side, across, side)
    return grid.transpose(1, 2).reshape(across * across, side * side)


def _merged(hidden: Tensor, groups: list[Tensor], is_exact: bool) -> Choice:
    """Returns the choice for an image's hidden (N+1, C) in which each group becomes its mean."""
    place = torch.arange(len(hidden) - 1, device=hidden.device)
    for group in groups:
        place[group] = group[-1]
    kept, row, size = place.unique(return_inverse=True, return_counts=True)
    weights = F.pad((F.one_hot(row, len(kept)) / size).mT.to(hidden.dtype), (1, 0))
    if is_exact:
        return Choice(kept, arrays={"merged": weights @ hidden}, weights=weights)
    first = row[[int(group[-1]) for group in groups]]
    order = torch.cat([first, (size == 1).nonzero().squeeze(-1)])
    cls = kept.new_tensor([-1])
    weights = torch.cat([picks(cls, len(place)).to(hidden.dtype), weights[order]])
    anchors = torch.cat([cls, kept[order]])
    return Choice(kept, None, len(weights), {"merged": weights @ hidden}, weights, anchors)
