"""CDPruner: tokens that differ, given the question (arXiv 2506.10967, NeurIPS 2025).

A determinantal point process whose kernel is conditioned on the relevance of each token to the
question, with greedy MAP inference by a Cholesky factor that grows at each pick (Chen et al.,
arXiv 1709.05135, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.errors import UserError
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import INF, cosines, dots, tokens_to_keep
from llava.model.token_pruning.common_greedy import choices, rows_of

# Float32 cosines leave about this variance of a patch that the picked ones explain completely.
_SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True)
class CDPrunerOptions:
    """The settings of CDPruner.

    Attributes:
        theta: from 0 to below 1, the weight of relevance beside diversity: relevance r becomes
            exp(theta / (2 (1 - theta)) r). None, as in the authors' runs, takes r as it is.
        published: keep fewer than K tokens where the features have fewer dimensions, up to the
            pick from which on the authors' code repeats itself. With False K are kept: a patch that
            the picked ones explain completely keeps a small variance, so that the most relevant of
            such patches come first.
    """

    theta: float | None = None
    published: bool = False

    def __post_init__(self) -> None:
        if self.theta is not None and not 0 <= self.theta < 1:
            raise UserError(f"theta is {self.theta}; it must be from 0 to below 1")


def cdpruner(
    x: Mapping[str, Tensor], budget: int | None, settings: CDPrunerOptions
) -> list[Choice]:
    """Greedily picks the token that adds most to the determinant of diag(r) C diag(r).

    With r taken out of the factor: the token of the largest r_j^2 v_j, v_j being the variance of j
    that the picked ones do not explain. O(N K^2 + N^2 D).

    Args:
        x: ``projected`` (B, N, D), ``image_embeds`` (B, N, P) and ``text_embeds`` (B, M, P).
        budget: K; None keeps 64.
        settings: see CDPrunerOptions.
    """
    cosine = cosines(x["projected"]).double()
    b, n = cosine.shape[:2]
    count = tokens_to_keep(budget, 64, n)
    weight = _relevance(x["image_embeds"], x["text_embeds"], settings.theta).double().square()
    floor = -INF if settings.published else _SMALLEST_VARIANCE
    variance = cosine.new_ones(b, n)
    factor = cosine.new_zeros(b, n, count)
    taken = torch.zeros(b, n, dtype=torch.bool, device=cosine.device)
    picked, pivots = [], []
    for step in range(count):
        variance = variance.clamp(min=floor)
        pick = (weight * variance).masked_fill(taken, -INF).argmax(-1)
        picked.append(pick)
        taken.scatter_(1, pick[:, None], True)
        known = factor[:, :, :step]
        explained = torch.stack([one @ one[j] for one, j in zip(known, pick)])
        pivots.append(variance.gather(1, pick[:, None]))
        factor[:, :, step] = (rows_of(cosine, pick) - explained) / pivots[-1].sqrt()
        variance = variance - factor[:, :, step].square()
    in_order = torch.stack(picked, dim=1)
    if not settings.published:
        return choices(in_order)
    lengths = (torch.cat(pivots, dim=1) > 0).cumprod(1).sum(1).tolist()
    return [choices(one[None, :length])[0] for one, length in zip(in_order, lengths)]


def _relevance(patches: Tensor, texts: Tensor, theta: float | None) -> Tensor:
    """Returns r (B, N) from 0 to 1: of the patch least similar to the text it is 1."""
    unit = F.normalize(patches, dim=-1), F.normalize(texts, dim=-1)
    distant = -dots(*unit).mean(-1)
    low, high = distant.amin(-1, keepdim=True), distant.amax(-1, keepdim=True)
    relevance = (distant - low + 1e-6) / (high - low).where(high > low, 1)
    if theta is None:
        return relevance
    return torch.exp(theta / (2 * (1 - theta)) * relevance)
