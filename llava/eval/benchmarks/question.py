"""A question of a benchmark, as the answering engine takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Question:
    """One question about one image.

    Attributes:
        key: the question's unique name within its benchmark.
        question_id: the benchmark's own id, in its own JSON type; need not be unique.
        image: a file, or an encoded picture (the bytes of a JPEG).
        prompt: the text after ``<image>`` and a newline.
        tower_question: the part of it that the text tower, caption model and selector read.
        max_new_tokens: limit of the answer.
        extra: other fields of the question for the benchmark's answers file.
    """

    key: str
    question_id: int | str
    image: Path | bytes
    prompt: str
    tower_question: str
    max_new_tokens: int
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image_name(self) -> str:
        """The name of the image's file; empty for an encoded picture."""
        return "" if isinstance(self.image, bytes) else self.image.name
