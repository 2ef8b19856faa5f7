"""Small functions that published pruners share.

Shapes are (B, ...) for B images; no result of an image depends on another image of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.errors import UserError
from llava.model.token_pruning.budget import check_tokens

INF = math.inf


def check_budget(budget: int | None, num_patches: int, low: int = 1) -> int:
    """Returns a budget K for a method with a fixed number of tokens.

    Raises:
        UserError: K is not a whole number from low to N.
    """
    return check_tokens("the budget", budget, low, num_patches)


def tokens_to_keep(budget: int | None, own: int, num_patches: int) -> int:
    """Returns K: the budget, or the method's own number where there is none.

    Raises:
        UserError: K is not a whole number from 1 to N.
    """
    return check_budget(own if budget is None else budget, num_patches)


def check_setting(name: str, value: float, low: float, high: float = INF) -> None:
    """Raises a UserError if a setting is not from low to high."""
    if not low <= value <= high:
        most = "" if high == INF else f" and at most {high}"
        raise UserError(f"setting {name} is {value}; it must be at least {low}{most}")


def falling(scores: Tensor) -> Tensor:
    """Returns the order (B, N) int64 of scores (B, N), largest first; equal ones by their index."""
    return scores.argsort(dim=-1, descending=True, stable=True)


def largest(scores: Tensor, count: int) -> Tensor:
    """Returns the indices (B, count) int64 of the largest scores (B, N); see falling."""
    return falling(scores)[..., :count]


def members(idx: Tensor, num_patches: int) -> Tensor:
    """Returns (B, N) bool, True at the indices (B, K) of each image."""
    chosen = torch.zeros(len(idx), num_patches, dtype=torch.bool, device=idx.device)
    return chosen.scatter(1, idx, True)


def rows(values: Tensor, idx: Tensor) -> Tensor:
    """Returns the rows (B, K, C) of values (B, N, C) at the indices (B, K)."""
    return values.gather(1, idx[..., None].expand(-1, -1, values.shape[-1]))


def picks(idx: Tensor, num_patches: int) -> Tensor:
    """Returns weights (..., K, N+1) float32 that pick single tokens by idx (..., K).

    Column 0 is the CLS token, whose index is -1.
    """
    return F.one_hot(idx + 1, num_patches + 1).float()


def dots(left: Tensor, right: Tensor) -> Tensor:
    """Returns the dot products (B, N, M) of vectors (B, N, C) and (B, M, C).

    It computes one product per image, so that rounding does not depend on the number of images.
    """
    return torch.stack([one @ other.T for one, other in zip(left, right)])


def cosines(vectors: Tensor) -> Tensor:
    """Returns the cosines (B, N, N) of vectors (B, N, C) with each other."""
    unit = F.normalize(vectors, dim=-1)
    return dots(unit, unit)


def sides_of(x: Mapping[str, Tensor], num_patches: int) -> tuple[int, int]:
    """Returns the rows and columns of the grid of N patches: those of x, or of a square.

    Args:
        x: may have ``grid`` (B, 2), the same for each image.
        num_patches: N.

    Raises:
        UserError: x has no grid, and N is not a square.
    """
    if "grid" in x:
        rows, columns = x["grid"][0].tolist()
        return rows, columns
    side = math.isqrt(num_patches)
    if side * side != num_patches:
        raise UserError(f"{num_patches} patches are no square grid, which the method needs")
    return side, side
