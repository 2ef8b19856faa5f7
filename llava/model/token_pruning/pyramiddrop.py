"""PyramidDrop: fewer image tokens at each of three layers of the LLM (arXiv 2410.17247, CVPR 2025).

At each stage the surviving image tokens are ranked by the attention of the last prompt token, with
the query and keys of the layer after, and a share of the original number is kept. Position ids are
counted again from 0. This file has only the choice, from given queries and keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.errors import UserError
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import INF, largest, members, tokens_to_keep
from llava.model.token_pruning.common_llm import attention_of, places_of_image


@dataclass(frozen=True)
class PyramidDropOptions:
    """The settings of PyramidDrop.

    Attributes:
        layers: the layers of 32 after which tokens are dropped.
        ratios: the share of the N image tokens to keep at each stage.
        keep: the number to keep at each stage, instead of the shares.
        heads: attention heads, side by side in queries and keys: 4 in the recorded cases.
        system_tokens: tokens before the image: 7 in the recorded cases, 35 in LLaVA-1.5's prompt.
        num_patches: N; None takes the largest square that leaves a text token.
    """

    layers: tuple[int, ...] = (8, 16, 24)
    ratios: tuple[float, ...] = (0.5, 0.25, 0.125)
    keep: tuple[int, ...] | None = None
    heads: int = 4
    system_tokens: int = 7
    num_patches: int | None = None


def pyramiddrop(
    x: Mapping[str, Tensor], budget: int | None, settings: PyramidDropOptions
) -> list[Choice]:
    """Keeps the tokens that survive all stages, in rising order.

    Args:
        x: ``llm_queries`` (B, stages, D) of the last prompt token and ``llm_keys`` (B, S, D).
        budget: K after the last stage; the stages before it keep more by the ratios. None keeps
            int(N ratio) at each.
        settings: see PyramidDropOptions.

    Raises:
        UserError: the stages do not fall to the budget, or there are more of them than queries.
    """
    keys, queries = x["llm_keys"], x["llm_queries"]
    image = places_of_image(keys.shape[1], settings.system_tokens, settings.num_patches)
    n = image.stop - image.start
    counts = settings.keep or _schedule(settings.ratios, budget, n)
    whole = tokens_to_keep(budget, counts[-1], n)
    falling = all(high >= low for high, low in zip((n, *counts), counts))
    if whole != counts[-1] or not falling or len(counts) > queries.shape[1]:
        raise UserError(
            f"stages of {', '.join(map(str, counts))} tokens do not fall from {n} to {whole} in at "
            f"most {queries.shape[1]} steps: check keep, ratios and the budget"
        )
    return [Choice(kept) for kept in survivors(queries, keys, counts, image, settings.heads).cpu()]


def survivors(
    queries: Tensor, keys: Tensor, counts: Sequence[int], image: slice, heads: int
) -> Tensor:
    """Returns the image tokens (B, K) int64 that survive stages of the given counts, rising."""
    alive = torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device)
    for stage, count in enumerate(counts):
        attention = attention_of(queries[:, stage], keys, heads, alive)[:, image]
        kept = largest(attention.masked_fill(~alive[:, image], -INF), count)
        alive[:, image] = members(kept, attention.shape[1])
    return kept.sort().values


def _schedule(ratios: Sequence[float], budget: int | None, num_patches: int) -> tuple[int, ...]:
    """Returns the number of image tokens that each stage keeps.

    Raises:
        UserError: there is no ratio, or one is not above 0.
    """
    if not ratios or min(ratios) <= 0:
        raise UserError("the ratios must be one or more numbers above 0")
    if budget is None:
        return tuple(int(num_patches * ratio) for ratio in ratios)
    return tuple(min(num_patches, round(budget * ratio / ratios[-1])) for ratio in ratios)
