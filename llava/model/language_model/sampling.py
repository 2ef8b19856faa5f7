"""Chooses the next token of each answer of a batch: the likeliest one, or a random one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from llava.decoding import Decoding
from llava.mm_utils import send


class TokenChooser:
    """Chooses tokens step by step.

    Each answer draws from its own generator on the CPU, so that its tokens depend only on its seed
    and its logits.

    Args:
        decoding: the settings of the first answers of the batch; answers that only fill it up are
            greedy.
    """

    def __init__(self, decoding: Sequence[Decoding]) -> None:
        self._draws = {row: _Draw(each) for row, each in enumerate(decoding) if each.is_drawn}

    def __call__(self, logits: Tensor) -> Tensor:
        """Returns the next tokens (B,) int64 from logits (B, V) float32."""
        tokens = logits.argmax(dim=-1)
        if not self._draws:
            return tokens
        rows = list(self._draws)
        drawn = [
            draw(row[None]) for draw, row in zip(self._draws.values(), logits[rows].cpu().unbind())
        ]
        tokens[rows] = send(torch.cat(drawn), tokens.device)
        return tokens


class _Draw:
    """Draws the tokens of one answer."""

    def __init__(self, decoding: Decoding) -> None:
        self._warpers = warpers(decoding)
        self._generator = torch.Generator().manual_seed(decoding.seed)

    def __call__(self, logits: Tensor) -> Tensor:
        """Returns a token (1,) int64 from logits (1, V)."""
        probs = self._warpers(None, logits).softmax(dim=-1)
        if not probs.isfinite().all():  # the weights are damaged; the answer's check reports it
            return logits.argmax(dim=-1)
        return torch.multinomial(probs, 1, generator=self._generator).squeeze(1)


def warpers(decoding: Decoding) -> LogitsProcessorList:
    """Returns transformers' own processors, which turn logits into those to draw from."""
    found = LogitsProcessorList([TemperatureLogitsWarper(float(decoding.temperature))])
    if decoding.top_p is not None and decoding.top_p < 1:
        found.append(TopPLogitsWarper(decoding.top_p))
    return found
