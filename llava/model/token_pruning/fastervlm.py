"""FasterVLM: the patches that the CLS token attends to most (arXiv 2412.01818v1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import check_budget, falling


@dataclass(frozen=True)
class FasterVlmOptions:
    """FasterVLM has no settings."""


def fastervlm(
    x: Mapping[str, Tensor], budget: int | None, settings: FasterVlmOptions
) -> list[Choice]:
    """Keeps the K patches of the largest mean attention over the heads, in rising order.

    Args:
        x: ``attn_cls`` (B, H, N+1), attention of the CLS token, itself first.
        budget: K, from 1 to N.
        settings: none.

    Raises:
        UserError: the budget cannot be met.
    """
    attention = x["attn_cls"][..., 1:].mean(dim=1)
    picked = falling(attention)[:, : check_budget(budget, attention.shape[1])]
    return [Choice(one.sort().values, one) for one in picked]
