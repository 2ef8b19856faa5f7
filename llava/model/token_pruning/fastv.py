"""FastV: the image tokens that the end of the prompt attends to (arXiv 2403.06764, ECCV 2024).

Before layer K of the LLM the share R of the image tokens is dropped: those to which the last prompt
token attends least in layer K - 1. The others keep their position ids. This file has only the
choice, from given attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import largest, tokens_to_keep
from llava.model.token_pruning.common_greedy import choices


@dataclass(frozen=True)
class FastVOptions:
    """The settings of FastV.

    Attributes:
        layer: K, the layer of 32 before which tokens are dropped.
        ratio: R, the share that is dropped without a budget.
        system_tokens: tokens before the image: 7 in the recorded cases, 35 in LLaVA-1.5's prompt.
    """

    layer: int = 2
    ratio: float = 0.5
    system_tokens: int = 7


def fastv(x: Mapping[str, Tensor], budget: int | None, settings: FastVOptions) -> list[Choice]:
    """Keeps the image tokens of the largest attention of the last prompt token, mean over heads.

    Args:
        x: ``llm_attn`` (B, H, T, S), attention of the T text tokens to the S = system + N + T.
        budget: K; None keeps int(N (1 - R)).
        settings: see FastVOptions.
    """
    text_tokens = x["llm_attn"].shape[2]
    attention = x["llm_attn"][:, :, -1, settings.system_tokens : -text_tokens].mean(1)
    n = attention.shape[1]
    return choices(largest(attention, tokens_to_keep(budget, int(n * (1 - settings.ratio)), n)))
