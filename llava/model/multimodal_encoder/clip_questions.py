"""Questions through CLIP's text tower: cut to its length, or in segments to their end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch import Tensor

from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer


def embed_questions(
    clip: ClipTower, tokenizer: ClipTokenizer, questions: Sequence[str]
) -> list[Tensor]:
    """Encodes questions, cut to the text tower's length, as (P,) float32 of unit length."""
    return list(clip.embed_text([tokenizer.encode(q, clip.max_text_length) for q in questions]))


def embed_segments(clip: ClipTower, tokenizer: ClipTokenizer, question: str) -> Tensor:
    """Encodes a whole question in segments of the text tower's length.

    It uses one pass per question, so that the result does not depend on others.

    Returns:
        (M, P) float32, not normalised.
    """
    ids = tokenizer.encode(question, sys.maxsize)
    start, end, inside = ids[:1], ids[-1:], ids[1:-1]
    room = clip.max_text_length - 2
    starts = range(0, max(1, len(inside)), room)
    return clip.project_text([start + inside[i : i + room] + end for i in starts])
