"""Small functions that pruners which read the attention of the tower share.

Shapes are (B, ...) for B images; nothing of an image depends on another of its batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.errors import UserError


def check_budget(budget: int | None, num_patches: int, low: int = 1) -> int:
    """Returns a budget K that a method of a fixed number of tokens can meet.

    Raises:
        UserError: K is no whole number from low to N.
    """
    if isinstance(budget, int) and not isinstance(budget, bool) and low <= budget <= num_patches:
        return budget
    raise UserError(
        f"the budget is {budget}; it must be a whole number from {low} to {num_patches}, the "
        "number of patches of an image"
    )


def check_setting(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raises a UserError if a setting is not from low to high."""
    if not low <= value <= high:
        most = "" if high == math.inf else f" and at most {high}"
        raise UserError(f"setting {name} is {value}; it must be at least {low}{most}")


def falling(scores: Tensor) -> Tensor:
    """Returns the order (B, N) int64 of scores (B, N), largest first; of equals the first first."""
    return scores.argsort(dim=-1, descending=True, stable=True)


def members(idx: Tensor, num_patches: int) -> Tensor:
    """Returns (B, N) bool, True at the indices (B, K) of each image."""
    chosen = torch.zeros(len(idx), num_patches, dtype=torch.bool, device=idx.device)
    return chosen.scatter(1, idx, True)


def rows(values: Tensor, idx: Tensor) -> Tensor:
    """Returns the rows (B, K, C) of values (B, N, C) at the indices (B, K)."""
    return values.gather(1, idx[..., None].expand(-1, -1, values.shape[-1]))


def cosines(values: Tensor) -> Tensor:
    """Returns the cosine (B, N, N) of each two of values (B, N, C)."""
    unit = F.normalize(values, dim=-1)
    return unit @ unit.mT


def columns_of(num_patches: int) -> int:
    """Returns the side of a square grid of N patches.

    Raises:
        UserError: N is no square.
    """
    side = math.isqrt(num_patches)
    if side * side != num_patches:
        raise UserError(f"{num_patches} patches are no square grid, which the method needs")
    return side
