"""MMTok: tokens that cover the question's words and the image (arXiv 2508.18264, ICLR 2026).

Maximum coverage over two kinds of rows, text-vision and vision-vision, joined with a weight alpha
and solved greedily.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.errors import UserError
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import cosines, dots, tokens_to_keep
from llava.model.token_pruning.common_greedy import choices, cover


@dataclass(frozen=True)
class MMTokOptions:
    """The settings of MMTok.

    Attributes:
        alpha: weight of the image's rows.
        tv_temp: temperature of the softmax of text-vision cosines; 0.01 for Qwen2.5-VL.
        vv_temp: temperature of the softmax of vision-vision cosines.
    """

    alpha: float = 0.5
    tv_temp: float = 0.02
    vv_temp: float = 0.2

    def __post_init__(self) -> None:
        if not (self.tv_temp > 0 and self.vv_temp > 0):
            raise UserError("tv_temp and vv_temp must be above 0")


def mmtok(x: Mapping[str, Tensor], budget: int | None, settings: MMTokOptions) -> list[Choice]:
    """Greedily picks the token with the largest gain in coverage.

    A word's row is the softmax over patches of its cosines / tv_temp, divided by the number of
    words; a patch's row is that of its cosines with all patches / vv_temp, times alpha / N.

    Args:
        x: ``projected`` (B, N, D), ``hidden`` (B, N+1, C), ``llm_text`` (B, T, D): the LLM's
            embeddings of the question's words without stop words.
        budget: K; None keeps 64.
        settings: see MMTokOptions.
    """
    patches = F.normalize(x["projected"], dim=-1)
    words = F.normalize(x["llm_text"], dim=-1)
    text_rows = (dots(words, patches) / settings.tv_temp).softmax(-1) / words.shape[1]
    image_rows = (cosines(x["hidden"][:, 1:]) / settings.vv_temp).softmax(-1)
    rows = torch.cat([text_rows, image_rows * (settings.alpha / patches.shape[1])], dim=1)
    return choices(cover(rows, tokens_to_keep(budget, 64, patches.shape[1])))
