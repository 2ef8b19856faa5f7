"""Images of several views: the budget of each view, and the tokens of all of them put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.method import BASE_FIRST
from llava.model.multimodal_encoder.visual_tokens import View
from llava.model.token_pruning.common import picks

if TYPE_CHECKING:
    from llava.model.token_pruning.pruner import Pruned

# Views with the number of tokens that each keeps.
Parts = tuple[tuple[View, int], ...]


def split_budget(views: Sequence[View], budget: int, split: str) -> Parts:
    """Spreads K over views, the base view first: K in all, and in no view more than it has.

    Args:
        views: of one image.
        budget: K, at most the number of all tokens.
        split: "proportional" gives each view a share by its size, rounded by largest remainders,
            among equal ones the first; "base-first" gives the base view as many as it has, and the
            tiles shares of the rest.
    """
    sizes = [view.rows * view.columns for view in views]
    if split == BASE_FIRST:
        base = min(budget, sizes[0])
        counts = [base, *_shares(sizes[1:], budget - base)]
    else:
        counts = _shares(sizes, budget)
    return tuple(zip(views, counts))


def _shares(sizes: Sequence[int], budget: int) -> list[int]:
    """Returns a budget in proportion to sizes, by largest remainders."""
    total = max(1, sum(sizes))
    counts = [budget * size // total for size in sizes]
    rest = [budget * size % total for size in sizes]
    by_rest = sorted(range(len(sizes)), key=lambda place: -rest[place])
    for place in by_rest[: budget - sum(counts)]:
        counts[place] += 1
    return counts


def without_cls(pruned: Pruned) -> Pruned:
    """Returns the kept tokens without the CLS token, where a pruner keeps it."""
    is_patch = pruned.kept_idx >= 0
    reasons = tuple(word for word, yes in zip(pruned.reasons, is_patch.tolist()) if yes)
    weights = None if pruned.weights is None else pruned.weights[is_patch.to(pruned.weights.device)]
    return replace(pruned, kept_idx=pruned.kept_idx[is_patch], reasons=reasons, weights=weights)


def joined(views: Sequence[View], found: Sequence[Pruned], num_tokens: int) -> Pruned:
    """Returns the kept tokens of an image from those of its views.

    They are in the order of the image where each view's are in the order of the view, else view by
    view.

    Args:
        views: V of them.
        found: for each, the kept tokens by their indices in the view, or the CLS token's.
        num_tokens: N of the image.
    """
    kept = torch.cat([_in_image(one.kept_idx, view) for view, one in zip(views, found)])
    reasons = [reason for one in found for reason in one.reasons]
    weights = None
    if any(one.weights is not None for one in found):
        weights = torch.cat([_widened(*both, num_tokens) for both in zip(views, found)])
    if all(bool((one.kept_idx.diff() > 0).all()) for one in found):
        kept, order = kept.sort()
        reasons = [reasons[place] for place in order.tolist()]
        weights = None if weights is None else weights[order]
    details = tuple(one.details for one in found if one.details is not None)
    return replace(
        found[0],
        num_tokens=num_tokens,
        kept_idx=kept,
        reasons=tuple(reasons),
        weights=weights,
        reads_question=any(one.reads_question for one in found),
        details=details or None,
        is_projected=any(one.is_projected for one in found),
    )


def _in_image(idx: Tensor, view: View) -> Tensor:
    """Returns the indices in the image of tokens of a view; that of the CLS token stays."""
    return torch.where(idx < 0, idx, view.idx[idx.clamp(min=0)])


def _widened(view: View, pruned: Pruned, num_tokens: int) -> Tensor:
    """Returns the weights (K, N+1) on the CPU of a view's kept tokens over all of the image's."""
    if pruned.weights is None:
        weights = picks(pruned.kept_idx, pruned.num_tokens)
    else:
        weights = pruned.weights.cpu()
    columns = F.pad(view.idx + 1, (1, 0))
    wide = weights.new_zeros(len(weights), num_tokens + 1)
    return wide.index_copy(1, columns, weights)
