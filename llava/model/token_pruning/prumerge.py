"""PruMerge: outliers of the attention as centres, others merged by keys (arXiv 2403.15388)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import check_budget, check_setting, falling, picks


@dataclass(frozen=True)
class PruMergeOptions:
    """The settings of PruMerge and PruMerge+.

    Attributes:
        adaptive: without a budget, the outliers become centres, not reduction_ratio x N patches.
        reduction_ratio: share of the patches that become centres if not adaptive.
        neighbours: tokens that are merged into each centre.
        published: give as many tokens as the authors' code, whatever the budget.
    """

    adaptive: bool = True
    reduction_ratio: float = 0.125
    neighbours: int = 32
    published: bool = False

    def __post_init__(self) -> None:
        check_setting("reduction_ratio", self.reduction_ratio, 0, 1)
        check_setting("neighbours", self.neighbours, 0)


@dataclass(frozen=True)
class Keyed:
    """The values of the N patches of an image.

    Attributes:
        features: (N, C).
        keys: (N, C) of unit length.
        attention: (N,) of the CLS token, over one head of the keys' full width.
        order: (N,) int64, by falling attention.
        outliers: number of patches above the third quartile by over 1.5 interquartile ranges.
    """

    features: Tensor
    keys: Tensor
    attention: Tensor
    order: Tensor
    outliers: int


def prumerge(
    x: Mapping[str, Tensor], budget: int | None, settings: PruMergeOptions
) -> list[Choice]:
    """Keeps centres, adds to each its most similar tokens, and sums up the rest in one more token.

    Args:
        x: ``query_cls`` (B, C) and ``keys`` (B, N+1, C) of the last layer, ``hidden`` (B, N+1, C).
        budget: K, from 1 to N: the K - 1 most attended patches and a token for the others. None:
            the authors' number.
        settings: see PruMergeOptions.

    Raises:
        UserError: the budget cannot be met.
    """
    choices = []
    for image in keyed_images(x):
        if budget is None or settings.published:
            count = int(len(image.order) * centre_ratio(image, settings))
        else:
            count = check_budget(budget, len(image.order)) - 1
        choices.append(merged(image, image.order[:count], settings.neighbours))
    return choices


def keyed_images(x: Mapping[str, Tensor]) -> Iterator[Keyed]:
    """Yields the values of each of B images."""
    keys, query = x["keys"], x["query_cls"]
    scores = (keys @ query[..., None]).squeeze(-1) * keys.shape[-1] ** -0.5
    attention = scores.softmax(dim=-1)[:, 1:]
    q1, q3 = attention.double().quantile(keys.new_tensor([0.25, 0.75]).double(), dim=1)
    outliers = (attention > (q3 + 1.5 * (q3 - q1))[:, None]).sum(dim=1).tolist()
    unit = F.normalize(keys[:, 1:], dim=-1)
    return map(Keyed, x["hidden"][:, 1:], unit, attention, falling(attention), outliers)


def centre_ratio(image: Keyed, settings: PruMergeOptions) -> float:
    """Returns the share of the patches that the authors' code makes centres."""
    return image.outliers / len(image.order) if settings.adaptive else settings.reduction_ratio


def other_patches(centres: Tensor, num_patches: int) -> Tensor:
    """Returns the last N - len(centres) patches that are not centres, rising."""
    patches = torch.arange(num_patches, device=centres.device)
    others = patches[~torch.isin(patches, centres)]
    return others[len(others) + len(centres) - num_patches :]


def merged(image: Keyed, centres: Tensor, neighbours: int) -> Choice:
    """Returns the choice of centres (K,), to each of which its neighbours' features are added.

    Their weights are their attention, not normalised; centres may be neighbours. The last token is
    such a sum over all patches that are not centres, at the place of the most attended one.
    """
    others = other_patches(centres, len(image.order))
    place = torch.cat([centres, others])
    similar = image.keys[centres] @ image.keys[place].mT
    similar.diagonal().fill_(-torch.inf)
    nearest = place[falling(similar)[:, : min(neighbours, len(place) - 1)]]
    weights = F.pad(picks(centres, len(image.order)).to(image.features.dtype), (0, 0, 0, 1))
    weights[:-1].scatter_add_(1, nearest + 1, image.attention[nearest])
    weights[-1, others + 1] = image.attention[others]
    tokens = weights[:, 1:] @ image.features
    rest = image.order[torch.isin(image.order, centres, invert=len(others) > 0)]
    anchors = torch.cat([centres, rest[:1]])
    return Choice(centres, centres, len(tokens), {"merged": tokens}, weights, anchors)
