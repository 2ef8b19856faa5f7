"""MustDrop's stage in the tower: windows of similar patches are merged (arXiv 2411.10803)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.errors import UserError
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import check_budget, check_setting, falling, picks, sides_of


@dataclass(frozen=True)
class MustDropOptions:
    """The settings of MustDrop's stage in the tower.

    Attributes:
        threshold: without a budget, windows of at least this mean cosine are merged.
        window: the smallest side of a window in patches.
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
        x: ``hidden`` (B, N+1, C); ``grid`` where N is not a square.
        budget: K, from 1 to N; None: as many as the threshold leaves.
        settings: see MustDropOptions.

    Raises:
        UserError: the budget cannot be met, or the grid cannot be cut into windows.
    """
    hidden = x["hidden"]
    num_patches = hidden.shape[1] - 1
    is_exact = budget is not None and not settings.published
    sides = sides_of(x, num_patches)
    windows = _windows(sides, window_sides(budget, sides, settings)).to(hidden.device)
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


def window_sides(
    budget: int | None, sides: tuple[int, int], settings: MustDropOptions
) -> tuple[int, int]:
    """Returns the sides of the smallest windows, from `window` on, of which there are at most K.

    The sides divide those of the grid. In a square grid windows are square; in another one a side
    may be that of the whole grid, however short. Without a budget, and as published, windows are
    squares of `window`.

    Raises:
        UserError: the grid cannot be cut into windows.
    """
    (rows, columns), least = sides, settings.window
    most = rows * columns
    if budget is not None:
        check_budget(budget, most)
    if budget is None or settings.published:
        pairs = [(least, least)]
    else:
        most = budget
        down, across = ([s for s in range(least, n + 1) if n % s == 0] for n in sides)
        pairs = [(d, a) for d in down or [rows] for a in across or [columns]]
        if rows == columns:
            pairs = [(d, d) for d in down]
    fitting = [
        (d, a)
        for d, a in pairs
        if rows % d == columns % a == 0 and rows // d * (columns // a) <= most
    ]
    if not fitting:
        raise UserError(
            f"a grid of {rows} x {columns} cannot be cut into windows of {least}: give another "
            "window, or use another pruner"
        )
    return min(fitting, key=lambda pair: (pair[0] * pair[1], abs(pair[0] - pair[1])))


def _windows(sides: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Returns the patches (windows, patches of one) int64 of each window of a grid."""
    down, across = sides[0] // window[0], sides[1] // window[1]
    grid = torch.arange(sides[0] * sides[1]).view(down, window[0], across, window[1])
    return grid.transpose(1, 2).reshape(down * across, window[0] * window[1])


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
