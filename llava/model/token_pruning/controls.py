"""Pruners that read neither the image nor the question: the baselines for all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.model.multimodal_encoder.visual_tokens import View, VisualTokens
from llava.model.token_pruning.pruner import Pruned, Query

Choose = Callable[[VisualTokens, int, torch.Generator], Pruned]


def each(choose: Choose) -> Callable[..., list[Pruned]]:
    """Returns a pruner's ``select`` that chooses the tokens of each image by itself.

    Args:
        choose: receives an image, K and a random generator.
    """

    def select(
        images: Sequence[VisualTokens],
        queries: Sequence[Query],
        budgets: Sequence[int],
        options: Sequence[object],
        generators: Sequence[torch.Generator],
    ) -> list[Pruned]:
        return [choose(*one) for one in zip(images, budgets, generators)]

    return select


def all_tokens(image: VisualTokens, budget: int, generator: torch.Generator) -> Pruned:
    """Keeps all tokens, whatever the budget."""
    n = len(image.features)
    return Pruned(n, torch.arange(n), ("all",) * n)


def no_tokens(image: VisualTokens, budget: int, generator: torch.Generator) -> Pruned:
    """Keeps no token, whatever the budget."""
    return Pruned(len(image.features), torch.arange(0), ())


def random_tokens(image: VisualTokens, budget: int, generator: torch.Generator) -> Pruned:
    """Keeps K tokens drawn without replacement, in rising order."""
    n = len(image.features)
    kept = torch.randperm(n, generator=generator)[:budget]
    return Pruned(n, kept.sort().values, ("random",) * budget)


def uniform_tokens(image: VisualTokens, budget: int, generator: torch.Generator) -> Pruned:
    """Keeps every N/K-th token, row by row: the one in the middle of each stretch."""
    n = len(image.features)
    kept = (2 * torch.arange(budget) + 1) * n // (2 * budget)
    return Pruned(n, kept, ("uniform",) * budget)


def pooled_tokens(image: VisualTokens, budget: int, generator: torch.Generator) -> Pruned:
    """Averages the grid into K cells of as equal an area as K allows; see pool_weights."""
    (view,) = image.views
    weights, centres = pool_weights(view, budget)
    weights = F.pad(weights, (1, 0))  # without the CLS token
    return Pruned(len(image.features), centres, ("pooled",) * budget, weights)


def pool_weights(view: View, num_cells: int) -> tuple[Tensor, Tensor]:
    """Cuts a grid into any number of cells, by area.

    The grid is cut into about sqrt(K) bands of equal height, and each band into cells of equal
    width; if the bands do not divide K evenly, some of them have one cell more. A patch that two
    cells share counts in each by its area there. A K of rows x columns, both divisors of the grid's
    sides, is plain average pooling.

    Returns:
        weights (K, N) float32 whose rows sum to 1, and the patches (K,) int64 at the centres.
    """
    num_bands = _num_bands(view, num_cells)
    down = _overlaps(view.rows, num_bands)
    ends = [num_cells * band // num_bands for band in range(num_bands + 1)]
    weights, centres = [], []
    for band, (start, end) in enumerate(zip(ends, ends[1:])):
        across = _overlaps(view.columns, end - start)
        weights.append((down[band][None, :, None] * across[:, None, :]).flatten(1))
        row = (2 * band + 1) * view.rows // (2 * num_bands)
        columns = (2 * torch.arange(end - start) + 1) * view.columns // (2 * (end - start))
        centres.append(row * view.columns + columns)
    return torch.cat(weights), torch.cat(centres)


def _num_bands(view: View, num_cells: int) -> int:
    """Returns a number of bands near the square root of K x rows / columns.

    It divides K evenly if such a number is within a patch of the root, and no band has more cells
    than there are columns.
    """
    ideal = (num_cells * view.rows / view.columns) ** 0.5
    fitting = [b for b in range(1, view.rows + 1) if -(-num_cells // b) <= view.columns]
    return min(fitting, key=lambda b: (abs(b - ideal) >= 1, num_cells % b != 0, abs(b - ideal)))


def _overlaps(length: int, parts: int) -> Tensor:
    """Returns (parts, length) float32: the share of each unit of a line in each of its equal parts.

    Rows sum to 1.
    """
    edges = torch.arange(parts + 1, dtype=torch.float64) * length / parts
    units = torch.arange(length, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], units + 1) - torch.maximum(edges[:-1, None], units)
    return (overlap.clamp(min=0) * parts / length).float()
