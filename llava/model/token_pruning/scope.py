"""SCOPE: tokens that the CLS attends to and that cover the others (arXiv 2510.24214, NeurIPS 2025).

The gain in coverage of the set is weighted by saliency, the attention of the CLS to the power of
alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llava.errors import UserError, quoted
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import cosines, tokens_to_keep
from llava.model.token_pruning.common_greedy import choices, cover


@dataclass(frozen=True)
class ScopeOptions:
    """The settings of SCOPE.

    Attributes:
        alpha: the power of the attention.
        combined: "multi" multiplies the gain by the attention, "add" adds the two.
    """

    alpha: float = 1.0
    combined: str = "multi"

    def __post_init__(self) -> None:
        if self.combined not in ("multi", "add"):
            raise UserError(f"combined is {quoted(self.combined)}: use multi or add")


def scope(x: Mapping[str, Tensor], budget: int | None, settings: ScopeOptions) -> list[Choice]:
    """Greedily picks the token with the largest gain_j a_j^alpha.

    gain_j is the sum over all patches i of max(0, cos_ij - covered_i); covered_i is the largest
    cosine of i with a picked patch, at least 0. a_j is the attention of the CLS, summed over heads.

    Args:
        x: ``hidden`` (B, N+1, C) and ``attn_cls`` (B, H, N+1).
        budget: K; None keeps 64.
        settings: see ScopeOptions.
    """
    cosine = cosines(x["hidden"][:, 1:])
    saliency = x["attn_cls"][:, :, 1:].sum(1).double() ** settings.alpha
    count = tokens_to_keep(budget, 64, cosine.shape[1])
    if settings.combined == "add":
        return choices(cover(cosine, count, lambda gains: gains + saliency))
    return choices(cover(cosine, count, lambda gains: gains * saliency))
