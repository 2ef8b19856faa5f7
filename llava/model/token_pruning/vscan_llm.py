"""VScan's second stage: fewer image tokens after a middle layer of the LLM (arXiv 2505.22654).

TMLR 2026. The image tokens that the first stage left are ranked by the attention of the last prompt
token after layer 16 of 32, as in a stage of PyramidDrop. The authors keep a third: 32 of 96 tokens,
64 tokens "on average". This file has only the choice, from given queries and keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import tokens_to_keep
from llava.model.token_pruning.common_llm import places_of_image
from llava.model.token_pruning.pyramiddrop import survivors


@dataclass(frozen=True)
class VScanLlmOptions:
    """The settings of VScan's second stage.

    Attributes:
        layer: the layer of 32 after which tokens are dropped.
        ratio: the share that is kept without a budget.
        heads: attention heads, side by side in queries and keys: 4 in the recorded cases.
        system_tokens: tokens before the image: 7 in the recorded cases, 35 in LLaVA-1.5's prompt.
        num_patches: image tokens that the first stage left; None takes the largest square that
            leaves a text token.
    """

    layer: int = 16
    ratio: float = 1 / 3
    heads: int = 4
    system_tokens: int = 7
    num_patches: int | None = None


def vscan_llm(
    x: Mapping[str, Tensor], budget: int | None, settings: VScanLlmOptions
) -> list[Choice]:
    """Keeps the image tokens of the largest attention of the last prompt token, in rising order.

    Args:
        x: ``llm_queries`` (B, stages, D), of which the first is read, and ``llm_keys`` (B, S, D).
        budget: K after this stage; None keeps round(N ratio).
        settings: see VScanLlmOptions.
    """
    keys = x["llm_keys"]
    image = places_of_image(keys.shape[1], settings.system_tokens, settings.num_patches)
    n = image.stop - image.start
    count = tokens_to_keep(budget, round(n * settings.ratio), n)
    kept = survivors(x["llm_queries"], keys, (count,), image, settings.heads)
    return [Choice(one) for one in kept.cpu()]
