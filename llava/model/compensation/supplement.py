"""What a compensation gives back for dropped tokens, and what every compensation can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.pruner import Needs


@dataclass(frozen=True)
class Supplement:
    """What the LLM is given for the dropped tokens of one image, and how it was chosen.

    Attributes:
        text: what the LLM reads as additional information; None where it receives nothing.
        candidates: texts among which it was chosen; "" among them stands for nothing.
        scores: one for each candidate.
        chosen: index of the chosen one; None where there was no choice.
    """

    text: str | None
    candidates: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    chosen: int | None = None

    @property
    def told(self) -> str:
        """The text to show: without blanks around it, "" for nothing."""
        return (self.text or "").strip()

    @property
    def shown(self) -> list[tuple[str, float, bool]]:
        """The candidates to show: each with its score, and whether it was chosen."""
        return [
            (text.strip() or "(no caption)", score, place == self.chosen)
            for place, (text, score) in enumerate(zip(self.candidates, self.scores))
        ]


class HasSupplement(Protocol):
    """A compensation's own record of one sample."""

    @property
    def supplement(self) -> Supplement:
        """What the LLM is given."""


class CompensationModule(Protocol):
    """A compensation: from dropped tokens and a question to what the LLM is given for them.

    Attributes:
        needs: what the tower has to compute for it.
        max_length: tokens of its own texts, at most.
    """

    needs: Needs
    max_length: int

    def check_question(self, question: str) -> None:
        """Refuses a question that it cannot read, with a TooLong."""

    def use_cuda_graphs(self) -> None:
        """Makes its passes CUDA graphs on a GPU."""

    def __call__(
        self,
        dropped: list[Tensor],
        questions: list[str],
        watch: Stopwatch | None = None,
        kept_shares: list[float] | None = None,
    ) -> Sequence[HasSupplement]:
        """Compensates B samples.

        Args:
            dropped: B tensors (M_b, P), the dropped tokens of each in index order.
            questions: B questions.
            watch: receives the times of its stages.
            kept_shares: K / N of each sample.
        """
