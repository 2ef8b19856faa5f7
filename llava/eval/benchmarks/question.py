"""A question of a benchmark, as the answering engine takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Question:
    """One question about one image.

    Attributes:
        key: names the question within its benchmark, once.
        question_id: the benchmark's own id, in its own JSON type; need not be unique.
        image: a file, or an encoded picture (the bytes of a JPEG).
        prompt: what follows ``<image>`` and a newline.
        tower_question: the part of it that text tower, caption model and selector read.
        max_new_tokens: longest answer.
        extra: what else the benchmark's answers file says of a question.
    """

    key: str
    question_id: int | str
    image: Path | bytes
    prompt: str
    tower_question: str
    max_new_tokens: int
    extra: Mapping[str, object] = field(default_factory=dict)
