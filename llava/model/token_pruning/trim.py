"""TRIM: the tokens least similar to the question, and the mean of the rest (arXiv 2409.10994).

COLING 2025: softmax of the similarity of CLIP's patches to the text, outliers by the interquartile
range, and one token for all that are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import dots, largest, picks, tokens_to_keep


@dataclass(frozen=True)
class TrimOptions:
    """The settings of TRIM.

    Attributes:
        k: without a budget, the share of the patches that is kept besides the mean token, int(k N)
            of them; a negative value keeps the outliers, as many as each image has.
        published: keep that number whatever the budget is.
    """

    k: float = -1
    published: bool = False


def trim(x: Mapping[str, Tensor], budget: int | None, settings: TrimOptions) -> list[Choice]:
    """Keeps the patches of the largest softmax of minus their dot product with the question.

    A budget of K is K - 1 patches and the mean token: the mean of the features of all dropped ones,
    ``mean_token`` (1, C) of the arrays. If no patch is dropped, there is no mean token: a budget of
    N keeps all N patches. The mean token has the place of the first dropped patch.

    Args:
        x: ``hidden`` (B, N+1, C), ``image_embeds`` (B, N, P) and ``text_embeds`` (B, M, P), of
            which only the first row is read: TRIM cuts long questions off.
        budget: K; None uses the settings.
        settings: see TrimOptions.
    """
    features = x["hidden"][:, 1:]
    b, n = features.shape[:2]
    unlike = (-dots(x["image_embeds"], x["text_embeds"][:, :1])).squeeze(-1).softmax(-1)
    if budget is not None and not settings.published:
        counts = [_patches_of(tokens_to_keep(budget, n, n), n)] * b
    elif settings.k < 0:
        counts = _outliers(unlike)
    else:
        counts = [int(n * settings.k)] * b
    order = largest(unlike, n)
    return [_choice(*one) for one in zip(features, order, counts)]


def _patches_of(budget: int, num_patches: int) -> int:
    """Returns the number of kept patches: one token is the mean, if any patch is dropped."""
    return budget if budget == num_patches else budget - 1


def _outliers(scores: Tensor) -> list[int]:
    """Returns the number of scores (B, N) above q3 + 1.5 (q3 - q1), for each image."""
    quartiles = scores.new_tensor((0.25, 0.75))
    q1, q3 = scores.quantile(quartiles, dim=-1, keepdim=True)
    return (scores > q3 + 1.5 * (q3 - q1)).sum(-1).tolist()


def _choice(features: Tensor, order: Tensor, count: int) -> Choice:
    """Returns the first patches of an order (N,) and the mean of the features (N, C) of others."""
    kept = order[:count].sort().values.cpu()
    dropped = order[count:].sort().values
    if not len(dropped):
        return Choice(kept)
    mean = features.new_zeros(1, len(order) + 1)
    mean[:, dropped + 1] = 1 / len(dropped)
    return Choice(
        kept,
        None,
        count + 1,
        {"mean_token": features[dropped].mean(0, keepdim=True)},
        torch.cat([picks(kept.to(mean.device), len(order)), mean]),
        torch.cat([kept, dropped[:1].cpu()]),
    )
