"""ACCM's choice of visual tokens: by the question, by the CLS, then an even grid.

Pure functions on the values of one image (arXiv 2508.01236). They run on the
CPU: a few hundred numbers, and the order of equal values does not depend on a GPU's sorting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llava.model.token_pruning.budget import Budget


@dataclass(frozen=True)
class Outliers:
    """Tukey's fence over the attention of one image: what lies above it counts as seen by the CLS.

    Attributes:
        q1, q3: quartiles, linear interpolation.
        upper: q3 + 1.5 (q3 - q1).
        ratio: share of the patches above it.
        n_selected: their number.
        min_margin: how close the nearest value comes to the fence.
    """

    q1: float
    q3: float
    upper: float
    ratio: float
    n_selected: int
    min_margin: float


@dataclass(frozen=True)
class Selection:
    """Which patches of one image stay, and why.

    Attributes:
        text_idx: (T,) picked by the question, farthest first.
        outliers: the fence that says how many the CLS picks.
        cls_idx: picked by the attention of the CLS, most attended first.
        n_unique_before_cut: size of the union of the two.
        union_idx: the union in rising order, its last K if it is larger.
        uniform_step: distance of the grid that fills up; None where nothing is missing.
        uniform_idx: taken from the grid, rising.
        random_idx: drawn at random because the grid was not enough.
    """

    num_patches: int
    text_idx: Tensor
    outliers: Outliers
    cls_idx: Tensor
    n_unique_before_cut: int
    union_idx: Tensor
    uniform_step: int | None
    uniform_idx: Tensor
    random_idx: Tensor

    @property
    def kept_idx(self) -> Tensor:
        """(K,) int64 in the order in which the LLM reads them."""
        return torch.cat([self.union_idx, self.uniform_idx, self.random_idx])

    @property
    def dropped_idx(self) -> Tensor:
        """(N - K,) int64, rising."""
        return _all_but(self.num_patches, self.kept_idx)


def text_distances(patch_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """Squared distance of each patch from its question on the unit sphere.

    Args:
        patch_embeds: (B, N, P), any length.
        text_embeds: (B, P) of unit length.

    Returns:
        (B, N) float32.
    """
    patches = F.normalize(patch_embeds.float(), dim=-1)
    dots = (patches @ text_embeds.unsqueeze(-1)).squeeze(-1)
    return patches.square().sum(-1) + text_embeds.square().sum(-1, keepdim=True) - 2 * dots


def attention_outliers(attention: Tensor) -> Outliers:
    """The fence over (N,) float32 attention values; quartiles in float64, compared in float32."""
    values = attention.numpy()
    q1, q3 = np.percentile(values.astype(np.float64), (25, 75))
    upper = q3 + 1.5 * (q3 - q1)
    above = int((values > np.float32(upper)).sum())
    margin = np.abs(values - upper).min()
    return Outliers(float(q1), float(q3), float(upper), above / len(values), above, float(margin))


def select_tokens(
    distances: Tensor,
    cls_attention: Tensor,
    budget: Budget,
    generator: torch.Generator,
    nearest: bool = False,
) -> Selection:
    """Chooses the K patches of one image that the LLM gets to see.

    Args:
        distances: (N,) float32 on the CPU, from text_distances.
        cls_attention: (N,) float32 on the CPU.
        budget: K and T.
        generator: draws where the grid leaves a gap: at most one ``randperm``.
        nearest: pick the patches nearest to the question. The method picks the farthest: in CLIP,
            the patches that a text is about are those least similar to it.
    """
    n, k = len(distances), budget.visual_token_num
    text_idx = torch.topk(-distances if nearest else distances, budget.text_token_num).indices
    outliers = attention_outliers(cls_attention)
    cls_idx = torch.topk(cls_attention, outliers.n_selected).indices
    union = torch.unique(torch.cat([text_idx, cls_idx]))  # rising
    # A quirk of the reference, kept: too many, and the top of the image goes first.
    union_idx = union[-k:]
    step, uniform_idx, random_idx = _fill(n, k, union_idx, generator)
    return Selection(
        num_patches=n,
        text_idx=text_idx,
        outliers=outliers,
        cls_idx=cls_idx,
        n_unique_before_cut=len(union),
        union_idx=union_idx,
        uniform_step=step,
        uniform_idx=uniform_idx,
        random_idx=random_idx,
    )


def _fill(
    n: int, k: int, chosen: Tensor, generator: torch.Generator
) -> tuple[int | None, Tensor, Tensor]:
    """Fills a choice up to K: grid step, grid patches, random patches."""
    nothing = torch.empty(0, dtype=torch.long)
    need = k - len(chosen)
    if need == 0:
        return None, nothing, nothing
    step = math.ceil(n / need)
    grid = torch.arange(0, n, step)
    uniform_idx = grid[~torch.isin(grid, chosen)]
    # Grid points that are taken already are not moved aside; chance makes up for them.
    short = need - len(uniform_idx)
    if short == 0:
        return step, uniform_idx, nothing
    rest = _all_but(n, torch.cat([chosen, uniform_idx]))
    order = torch.randperm(len(rest), generator=generator)
    return step, uniform_idx, rest[order[:short]]


def _all_but(n: int, taken: Tensor) -> Tensor:
    """The indices 0..n-1 that are not taken, rising."""
    free = torch.ones(n, dtype=torch.bool)
    free[taken] = False
    return free.nonzero().squeeze(-1)
