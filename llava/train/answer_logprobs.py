"""The frozen LLM's answers and their probabilities, for the selector and self-supervised stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.model.language_model.llava_llama import LanguageModel
from llava.train.packing import IGNORED, PackedBatch, Packer, collate, predict, run_llm


@dataclass(frozen=True)
class Reading:
    """One input of the LLM, with the answer whose probability is asked for.

    Attributes:
        features: (K, C) visual tokens, as the tower gives them.
        caption: read as "additional information"; None for none.
        question: what follows the image in the prompt.
        answer: its text.
    """

    features: Tensor
    caption: str | None
    question: str
    answer: str


@torch.no_grad()
def answer_log_probs(
    model: LanguageModel, packer: Packer, readings: Sequence[Reading], batch_size: int
) -> list[Tensor]:
    """Returns the log-probabilities of all tokens at the positions of the answers' tokens.

    Args:
        model: the LLM, frozen.
        packer: turns texts into sequences.
        readings: B of them.
        batch_size: readings per batch; those of similar length are batched together.

    Returns:
        B tensors (A_b, V) float32, A_b counting the end-of-text.
    """
    packed = [packer.pack([(r.question, r.answer)], len(r.features), r.caption) for r in readings]
    order = sorted(range(len(packed)), key=lambda i: len(packed[i].ids))
    results: dict[int, Tensor] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collate([packed[i] for i in chosen], [readings[i].features for i in chosen])
        results.update(zip(chosen, _log_probs(model, batch)))
    return [results[i] for i in range(len(packed))]


def is_likeliest(log_probs: Tensor, ids: Sequence[int]) -> bool:
    """Returns whether greedy decoding would write these ids; log_probs is (A, V)."""
    return log_probs.argmax(dim=-1).tolist() == list(ids)


def _log_probs(model: LanguageModel, batch: PackedBatch) -> list[Tensor]:
    """Returns log-probabilities (A, V) for each of a batch's sequences of one question."""
    batch = batch.to(next(model.projector.parameters()).device)
    hidden = run_llm(model.llm, model.projector, batch)
    logits, _ = predict(model.llm, hidden, batch.labels)
    counts = (batch.labels != IGNORED).sum(dim=1).tolist()
    return list(logits.log_softmax(dim=-1).split(counts))
