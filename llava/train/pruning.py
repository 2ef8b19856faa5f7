"""The tokens that pruning drops, for training: ACCM's own choice at any mix of budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.errors import UserError
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
        self, image: VisualTokens, question: str, budget: int, generator: torch.Generator
    ) -> Pruned:
        """Prunes an image for a question, with a budget of that many tokens."""
        pruning = Pruning(ACCM, budget, AccmOptions(nearest=self.nearest))
        query = Query(self.text_embeds[question])
        (found,) = prune([image], [query], [pruning], [generator])
        return found


def check_budgets(budgets: Sequence[int], num_patches: int, flag: str = "--budgets") -> None:
    """Refuses budgets that drop nothing or are invalid.

    Raises:
        UserError: names the first of them, and the flag.
    """
    for budget in budgets:
        if not 1 <= budget < num_patches:
            raise UserError(
                f"{flag} has {budget}: of {num_patches} tokens 1 to {num_patches - 1} can stay "
                "where something is to be dropped"
            )
    if not budgets:
        raise UserError(f"{flag} is empty: name at least one number of tokens to keep")


def draw(items: Sequence, generator: torch.Generator):
    """Draws one of the items."""
    return items[int(torch.randint(len(items), (1,), generator=generator))]
