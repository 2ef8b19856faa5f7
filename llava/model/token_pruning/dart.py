"""DART: drop the image tokens that repeat pivot tokens (arXiv 2502.11494, EMNLP 2025).

Before layer 2 of the LLM: pivots are the tokens whose keys have the largest L1 norm, and for each
of them the image tokens least similar to it are kept. Kept tokens keep their position ids. This
file has only the choice, from given keys and states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import INF, largest, members, tokens_to_keep
from llava.model.token_pruning.common_greedy import choices_of_sets, rows_of
from llava.model.token_pruning.common_llm import places_of_image


@dataclass(frozen=True)
class DartOptions:
    """The settings of DART.

    Attributes:
        layer: the layer of 32 before which tokens are dropped.
        reduction_ratio: the share that is dropped without a budget.
        pivot_image: pivots among the image tokens; they are kept.
        pivot_text: pivots among the text tokens.
        published: keep as many tokens as the authors' code: all image pivots, and int(N (1 - r) /
            pivots) for each pivot. With False exactly K: at most K image pivots, and the rest is
            distributed over the pivots, one more for the first ones.
        system_tokens: tokens before the image: 7 in the recorded cases, 35 in LLaVA-1.5's prompt.
        num_patches: N; None takes the largest square that leaves a text token.
    """

    layer: int = 2
    reduction_ratio: float = 0.778
    pivot_image: int = 4
    pivot_text: int = 4
    published: bool = False
    system_tokens: int = 7
    num_patches: int | None = None


def dart(x: Mapping[str, Tensor], budget: int | None, settings: DartOptions) -> list[Choice]:
    """Keeps the image pivots and, for each pivot in turn, the least similar of the other tokens.

    Args:
        x: ``llm_keys`` (B, S, D) of the layer before and ``llm_hidden`` (B, S, D), its states
            after the norm.
        budget: K; None keeps as many as the reduction ratio says.
        settings: see DartOptions.
    """
    norms, states = x["llm_keys"].abs().sum(-1), F.normalize(x["llm_hidden"], dim=-1)
    image = places_of_image(norms.shape[1], settings.system_tokens, settings.num_patches)
    n = image.stop - image.start
    texts = min(settings.pivot_text, norms.shape[1] - image.stop)
    if settings.published or budget is None:
        dropped = settings.reduction_ratio if budget is None else 1 - budget / n
        images = min(settings.pivot_image, n)
        shares = [int(n * (1 - dropped) / (images + texts))] * (images + texts)
    else:
        images = min(settings.pivot_image, tokens_to_keep(budget, n, n))
        each, more = divmod(budget - images, images + texts)
        shares = [each + (place < more) for place in range(images + texts)]
    image_pivots = largest(norms[:, image], images)
    text_pivots = largest(norms[:, image.stop :], texts)
    order = _visiting_order(image_pivots + image.start, text_pivots + image.stop)
    taken = members(image_pivots, n)
    for pivot, count in zip(order.unbind(1), shares):
        cosine = (states[:, image] * rows_of(states, pivot)[:, None]).sum(-1)
        taken |= members(largest(-cosine.masked_fill(taken, INF), count), n)
    return choices_of_sets([one.nonzero().squeeze(-1) for one in taken])


def _visiting_order(image_pivots: Tensor, text_pivots: Tensor) -> Tensor:
    """Returns the pivots (B, P) int64 in the order in which the authors' code visits them.

    It iterates over a Python set of positions in the sequence. CPython orders whole numbers by
    their remainder modulo the size of the set's table, and equal remainders by insertion.
    """
    pivots = torch.cat([image_pivots, text_pivots], dim=1)
    return torch.tensor([list(set(one)) for one in pivots.tolist()], device=pivots.device)
