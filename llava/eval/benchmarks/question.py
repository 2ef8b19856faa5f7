"""A question of a benchmark, as the answering engine takes it, and checks of its sources."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llava.errors import UserError, quoted
from llava.eval.benchmarks.names import is_name


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


def need(path: Path, layout: str, home: str) -> Path:
    """Returns a file or folder that must exist.

    Raises:
        UserError: it does not; the message says what belongs there and where to get it.
    """
    if not (os.path.isfile(path) or os.path.isdir(path)):
        raise UserError(f"there is no {path}: {layout}; get it from {home}")
    return path


def need_texts(record: object, names: Sequence[str], where: str, ids: Sequence[str] = ()) -> dict:
    """Returns a JSON object in which these fields are texts.

    Args:
        record: any JSON value.
        names: fields that must be texts.
        where: the place of the object, for a message.
        ids: fields that must be texts usable as an id or a file's name.

    Raises:
        UserError: it is not an object, or a field is missing or not right.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}: a {type(record).__name__} stands where an object is expected")
    wrong = [name for name in names if not isinstance(record.get(name), str)]
    if wrong:
        raise UserError(f"{where}: no text under {', '.join(wrong)}: mend it, or get it again")
    for name in ids:
        if not is_name(record.get(name)):
            raise UserError(
                f"{where}: {name} {quoted(record.get(name))} cannot be an id or a file's name (a "
                "text of Unicode in one line): mend it, or get it again"
            )
    return record


def need_unique(questions: Sequence[Question], source: Path) -> list[Question]:
    """Returns the questions; there must be at least one, and their keys must differ.

    Raises:
        UserError: there is none, or two have the same key.
    """
    seen: set[str] = set()
    for question in questions:
        if question.key in seen:
            raise UserError(
                f"{source} asks question {quoted(question.key)} twice: answers could not be told "
                "apart, remove one of the two"
            )
        seen.add(question.key)
    if not seen:
        raise UserError(f"{source} holds no question: is it the right file?")
    return list(questions)
