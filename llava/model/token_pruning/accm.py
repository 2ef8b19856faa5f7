"""ACCM's choice of visual tokens: by the question, by the CLS, then an even grid.

Pure functions on the values of a batch (arXiv 2508.01236). They run on the CPU: an image has only a
few hundred numbers, and the order of equal values does not depend on a GPU's sorting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llava.model.multimodal_encoder.visual_tokens import VisualTokens, needed
from llava.model.token_pruning.budget import Budget, resolve_budget
from llava.model.token_pruning.pruner import Pruned, Query


@dataclass(frozen=True)
class Outliers:
    """Tukey's fence over the attention of one image: patches above it count as seen by the CLS.

    Attributes:
        q1, q3: quartiles, linear interpolation.
        upper: q3 + 1.5 (q3 - q1).
        ratio: share of the patches above the fence.
        n_selected: their number.
        min_margin: distance of the nearest value from the fence.
    """

    q1: float
    q3: float
    upper: float
    ratio: float
    n_selected: int
    min_margin: float


@dataclass(frozen=True)
class Selection:
    """The kept patches of one image, with the reasons.

    Attributes:
        text_idx: (T,) picked by the question, farthest first.
        outliers: the fence, which gives the number of patches that the CLS picks.
        cls_idx: picked by the attention of the CLS, most attended first.
        n_unique_before_cut: size of the union of the two.
        union_idx: the union in rising order, its last K if it is larger.
        uniform_step: step of the grid that fills up; None if nothing is missing.
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
        """The indices (K,) int64 of the kept patches, in the order in which the LLM reads them."""
        return torch.cat([self.union_idx, self.uniform_idx, self.random_idx])

    @property
    def dropped_idx(self) -> Tensor:
        """The indices (N - K,) int64 of the dropped patches, rising."""
        dropped = torch.ones(self.num_patches, dtype=torch.bool)
        dropped[self.kept_idx] = False
        return _places(dropped)


@dataclass(frozen=True)
class AccmOptions:
    """The settings of ACCM's choice.

    Attributes:
        text_token_num: T, how many tokens the question picks; None takes the paper's share of K.
        nearest: see select_tokens.
    """

    text_token_num: int | None = None
    nearest: bool = False


def select_accm(
    images: Sequence[VisualTokens],
    queries: Sequence[Query],
    budgets: Sequence[int],
    options: Sequence[AccmOptions],
    generators: Sequence[torch.Generator],
) -> list[Pruned]:
    """Chooses the tokens of B images of N tokens each: select_tokens as a registered pruner.

    Raises:
        UserError: a budget is not valid; see resolve_budget.
    """
    patches = torch.stack([needed(image.patch_embeds) for image in images])
    attention = torch.stack([needed(image.cls_attention) for image in images])
    # Both are moved to the CPU in one transfer.
    distances = text_distances(
        patches, torch.stack([needed(query.text_embed) for query in queries])
    )
    distances, attention = torch.stack([distances, attention]).cpu()
    asked = [
        resolve_budget(k, o.text_token_num, patches.shape[1]) for k, o in zip(budgets, options)
    ]
    farthest = [-1.0 if option.nearest else 1.0 for option in options]
    found = select_tokens(distances * torch.tensor(farthest)[:, None], attention, asked, generators)
    return [
        Pruned(
            num_tokens=selection.num_patches,
            kept_idx=selection.kept_idx,
            reasons=tuple(kept_reasons(selection).values()),
            reads_question=len(selection.text_idx) > 0,
            details=selection,
        )
        for selection in found
    ]


def kept_reasons(selection: Selection) -> dict[int, str]:
    """Returns why each kept patch was kept, in the order in which the LLM reads them."""
    asked, seen = set(selection.text_idx.tolist()), set(selection.cls_idx.tolist())
    reasons = {}
    for patch in selection.union_idx.tolist():
        both = patch in asked and patch in seen
        one = "question" if patch in asked else "attention"
        reasons[patch] = "question and attention" if both else one
    reasons |= dict.fromkeys(selection.uniform_idx.tolist(), "uniform")
    return reasons | dict.fromkeys(selection.random_idx.tolist(), "random")


def text_distances(patch_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """Returns the squared distance of each patch from its question on the unit sphere.

    Args:
        patch_embeds: (B, N, P), any length.
        text_embeds: (B, P) of unit length.

    Returns:
        (B, N) float32.
    """
    patches = F.normalize(patch_embeds.float(), dim=-1)
    dots = (patches @ text_embeds.unsqueeze(-1)).squeeze(-1)
    return patches.square().sum(-1) + text_embeds.square().sum(-1, keepdim=True) - 2 * dots


def attention_outliers(attention: Tensor) -> list[Outliers]:
    """Computes fences over attention (B, N) float32; quartiles in float64, compared in float32."""
    values = attention.numpy()
    q1, q3 = np.percentile(values.astype(np.float64), (25, 75), axis=1)
    upper = q3 + 1.5 * (q3 - q1)
    above = (values > upper.astype(np.float32)[:, None]).sum(axis=1)
    margin = np.abs(values - upper[:, None]).min(axis=1)
    columns = (q1, q3, upper, above / values.shape[1], above, margin)
    return [Outliers(*row) for row in zip(*(column.tolist() for column in columns))]


def select_tokens(
    distances: Tensor,
    cls_attention: Tensor,
    budgets: Sequence[Budget],
    generators: Sequence[torch.Generator],
    nearest: bool = False,
) -> list[Selection]:
    """Chooses the K patches of each image that the LLM reads.

    Args:
        distances: (B, N) float32 on the CPU, from text_distances.
        cls_attention: (B, N) float32 on the CPU.
        budgets: K and T of each.
        generators: an image draws from its own if its grid leaves a gap: at most one ``randperm``.
        nearest: pick the patches nearest to the question. ACCM picks the farthest: in CLIP,
            the patches that a text is about are those least similar to it.
    """
    outliers = attention_outliers(cls_attention)
    kept = torch.tensor([budget.visual_token_num for budget in budgets])
    text_idx = _most(-distances if nearest else distances, [b.text_token_num for b in budgets])
    cls_idx = _most(cls_attention, [fence.n_selected for fence in outliers])
    union = _members(distances.shape, text_idx) | _members(distances.shape, cls_idx)
    # A quirk of the reference, kept: if there are too many, the top of the image is cut first.
    chosen = union & (union.flip(1).cumsum(dim=1).flip(1) <= kept[:, None])
    steps, grid = _grid(chosen, kept)
    uniform = grid & ~chosen
    # Grid points that are taken already are not moved; random draws replace them.
    short = kept - chosen.sum(dim=1) - uniform.sum(dim=1)
    rest = ~(chosen | uniform)
    return [
        Selection(
            num_patches=distances.shape[1],
            text_idx=text_idx[b],
            outliers=outliers[b],
            cls_idx=cls_idx[b],
            n_unique_before_cut=int(union[b].sum()),
            union_idx=_places(chosen[b]),
            uniform_step=steps[b],
            uniform_idx=_places(uniform[b]),
            random_idx=_draw(_places(rest[b]), int(short[b]), generators[b]),
        )
        for b in range(len(distances))
    ]


def _most(values: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Returns the indices of the largest values of each row (B, N), largest first.

    Each row has its own count; among equal values the first comes first.
    """
    order = values.argsort(dim=1, descending=True, stable=True)
    return [row[:count] for row, count in zip(order, counts)]


def _members(shape: torch.Size, places: Sequence[Tensor]) -> Tensor:
    """Returns (B, N) bool, True at the indices of each row."""
    members = torch.zeros(shape, dtype=torch.bool)
    rows = torch.arange(len(places)).repeat_interleave(torch.tensor([len(p) for p in places]))
    members[rows, torch.cat(list(places))] = True
    return members


def _grid(chosen: Tensor, kept: Tensor) -> tuple[list[int | None], Tensor]:
    """Computes the even grids that fill choices (B, N) up to (B,) patches each.

    Returns:
        Their steps, None where nothing is missing, and (B, N) bool.
    """
    n = chosen.shape[1]
    need = (kept - chosen.sum(dim=1)).tolist()
    steps = [math.ceil(n / missing) if missing else None for missing in need]
    spacing = torch.tensor([step or n for step in steps])
    wanted = torch.tensor([missing > 0 for missing in need])
    return steps, (torch.arange(n) % spacing[:, None] == 0) & wanted[:, None]


def _draw(rest: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draws that many of the patches at random; for 0 the generator is left untouched."""
    if number == 0:
        return rest[:0]
    return rest[torch.randperm(len(rest), generator=generator)[:number]]


def _places(members: Tensor) -> Tensor:
    """Returns the indices where members (N,) bool is True, rising."""
    return members.nonzero().squeeze(-1)
