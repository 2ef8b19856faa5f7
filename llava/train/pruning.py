"""The tokens that pruning drops, for training: ACCM's own choice at any mix of budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.budgets import AskedBudget, count_kept
from llava.errors import UserError
from llava.model.compensation.supplement import PrunedSample, TextQuery
from llava.model.multimodal_encoder.visual_tokens import VisualTokens
from llava.model.token_pruning.accm import AccmOptions
from llava.model.token_pruning.pruner import Pruned, Pruning, Query, prune
from llava.model.token_pruning.registry import ACCM


@dataclass(frozen=True)
class Pruner:
    """ACCM's choice of tokens.

    Attributes:
        text_embeds: (P,) float32 of each question.
        nearest: see select_tokens.
    """

    text_embeds: Mapping[str, Tensor]
    nearest: bool

    def select(
        self, image: VisualTokens, question: str, budget: AskedBudget, generator: torch.Generator
    ) -> Pruned:
        """Prunes an image for a question to a budget."""
        kept = count_kept(budget, len(image.features))
        pruning = Pruning(ACCM, kept, AccmOptions(nearest=self.nearest))
        query = Query(self.text_embeds[question])
        (found,) = prune([image], [query], [pruning], [generator])
        return found


def check_budgets(
    budgets: Sequence[AskedBudget], num_patches: int, flag: str = "--budgets"
) -> list[int]:
    """Refuses budgets that drop nothing or are invalid.

    Returns:
        The numbers of tokens that they keep of num_patches.

    Raises:
        UserError: names the first of them, and the flag.
    """
    counts = []
    for budget in budgets:
        counts.append(count_kept(budget, num_patches))
        if not 1 <= counts[-1] < num_patches:
            raise UserError(
                f"{flag} has {budget}: of {num_patches} tokens 1 to {num_patches - 1} can stay "
                "where something is to be dropped"
            )
    if not budgets:
        raise UserError(f"{flag} is empty: name at least one number of tokens to keep")
    return counts


def described(image: VisualTokens, pruned: Pruned) -> Tensor:
    """Returns the embeddings (M, P) of the patches that the caption model reads."""
    return PrunedSample(image, pruned, TextQuery("", "")).dropped


def draw(items: Sequence, generator: torch.Generator):
    """Draws one of the items."""
    return items[int(torch.randint(len(items), (1,), generator=generator))]
