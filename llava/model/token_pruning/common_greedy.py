"""Functions of published pruners that pick tokens greedily, one after another.

All functions take B images; no result of an image depends on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import INF


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Returns one row (B, N) of each table (B, R, N), by its index (B,) int64."""
    return table[torch.arange(len(table), device=table.device), index]


def cover(
    rows: Tensor, count: int, score: Callable[[Tensor], Tensor] = lambda gains: gains
) -> Tensor:
    """Greedily picks columns that together cover all rows best (facility location).

    A set S covers a row by the row's largest value in the columns of S, at least 0. A pick changes
    the gains only by the rows in which it exceeds what was covered, and only these are visited:
    about N log K of the N K rows in all. On a GPU the gains are summed in no fixed order, in
    float64; on the CPU the result is reproducible.

    Args:
        rows: (B, R, N), how well column n covers row r.
        count: the number of columns to pick, at most N.
        score: turns the gains (B, N) float64 of all columns into scores; the largest is picked.

    Returns:
        The columns (B, count) int64 in the order of choice; among equals the first index.
    """
    rows = rows.double()
    gains = rows.clamp(min=0).sum(1)
    nothing = 1e-12 * gains.amax(-1, keepdim=True)  # rounding can leave this much of a gain of 0
    covered = rows.new_zeros(rows.shape[:2])
    taken = torch.zeros_like(gains, dtype=torch.bool)
    picked = []
    for _ in range(count):
        gains = gains.where(gains > nothing, 0)
        pick = score(gains).masked_fill(taken, -INF).argmax(-1)
        picked.append(pick)
        taken.scatter_(1, pick[:, None], True)
        column = rows.gather(2, pick[:, None, None].expand(-1, rows.shape[1], 1)).squeeze(-1)
        image, row = (column > covered).nonzero(as_tuple=True)
        old, new = covered[image, row][:, None], column[image, row][:, None]
        gains = gains.index_add(0, image, rows[image, row].clamp(old, new) - old, alpha=-1)
        covered = torch.maximum(covered, column)
    return torch.stack(picked, dim=1)


def choices(picked: Tensor) -> list[Choice]:
    """Returns Choices of picked patches (B, K), with the output in rising order."""
    picked = picked.cpu()
    return [Choice(one.unique(), one) for one in picked]


def choices_of_sets(kept: Sequence[Tensor] | Tensor) -> list[Choice]:
    """Returns Choices of B sets of patches (K,) int64, with the output in rising order."""
    return [Choice(one.cpu().sort().values) for one in kept]
