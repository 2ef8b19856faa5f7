"""DivPrune: the tokens that differ most from each other (arXiv 2503.02175, CVPR 2025).

Written from the paper: the max-min diversity problem, distances 1 - cosine, solved greedily.
The authors' code is CC BY-NC and none of it is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import INF, cosines, tokens_to_keep
from llava.model.token_pruning.common_greedy import choices, rows_of


@dataclass(frozen=True)
class DivPruneOptions:
    """The settings of DivPrune.

    Attributes:
        ratio: the share of the patches that is kept without a budget.
    """

    ratio: float = 0.098


def divprune(
    x: Mapping[str, Tensor], budget: int | None, settings: DivPruneOptions
) -> list[Choice]:
    """Picks the token farthest from its nearest neighbour, then those farthest from all picked.

    O(N^2 D + N K): the distance to the nearest picked token is updated at each pick. The authors'
    code may pick one of two equal patches twice; here no patch is picked twice.

    Args:
        x: ``projected`` (B, N, D).
        budget: K; None keeps round(ratio N).
        settings: see DivPruneOptions.
    """
    features = x["projected"]
    n = features.shape[1]
    count = tokens_to_keep(budget, round(settings.ratio * n), n)
    cosine = cosines(features)
    cosine.diagonal(dim1=1, dim2=2).fill_(-INF)
    nearest = cosine.amax(-1)  # the cosine to the nearest of the others
    picked = [nearest.argmin(-1)]
    nearest = torch.full_like(nearest, -INF)  # the cosine to the nearest picked token
    for _ in range(count - 1):
        nearest = torch.maximum(nearest, rows_of(cosine, picked[-1]))
        nearest.scatter_(1, picked[-1][:, None], INF)
        picked.append(nearest.argmin(-1))
    return choices(torch.stack(picked, dim=1))
