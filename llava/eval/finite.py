"""Answers computed from NaN or infinity: reported as errors instead of recorded as good."""

from __future__ import annotations

import math

import torch

from llava.model.sample import Answer

_WAY_OUT = (
    "the weights are damaged (see python -m llava.checkpoints verify), or the dtype is too narrow "
    "for them: try --dtype bfloat16 or float32"
)


def why_not_finite(answer: Answer) -> str | None:
    """Returns why an answer cannot be used: NaN or infinite scores; None if all are finite."""
    supplement = answer.supplement
    if supplement is not None and not all(map(math.isfinite, supplement.scores)):
        return f"the selector's scores are not finite: {_WAY_OUT}"
    if not torch.isfinite(answer.first_logits).all():
        return f"the LLM's scores of words are not finite: {_WAY_OUT}"
    return None
