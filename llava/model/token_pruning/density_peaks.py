"""Clusters around density peaks with nearest neighbours, as SparseVLM recycles tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.model.token_pruning.common import largest, rows


def density_peaks(states: Tensor, count: int, seed: int) -> Tensor:
    """Merges tokens into clusters around density peaks.

    With d the distance / sqrt(D), a token's density is exp(-mean of its G smallest d^2), itself
    among them, its separation the smallest d to a denser token (of the densest the largest d of
    all). Centres are the tokens of the largest density x separation; each token joins the nearest.

    Args:
        states: (B, M, D), the tokens.
        count: G, the number of clusters.
        seed: the seed of noise up to 1e-6, the same for each image, that decides between equal
            densities.

    Returns:
        (B, G, D), the sum over each cluster / (its size + 1e-6).
    """
    b, m, width = states.shape
    if not count:
        return states[:, :0]
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(states, states, compute_mode=exact) / width**0.5
    near = distance.topk(count, largest=False).values
    noise = torch.rand(m, dtype=states.dtype, generator=torch.Generator().manual_seed(seed))
    density = (-near.square().mean(-1)).exp() + noise.to(states.device) * 1e-6
    denser = density[:, None] > density[..., None]
    farthest = distance.amax((1, 2))[:, None, None]
    separation = distance.where(denser, farthest).amin(-1)
    centres = largest(density * separation, count)
    joins = rows(distance, centres).argmin(1)
    joins = joins.scatter(1, centres, torch.arange(count, device=joins.device).expand(b, -1))
    onehot = F.one_hot(joins, count).to(states.dtype)
    return (onehot.mT @ states) / (onehot.sum(1) + 1e-6)[..., None]
