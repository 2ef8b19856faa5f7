"""The inputs of a visitor, field by field: values, and the problems with each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from llava.errors import UserError
from llava.serve.web.answering import Answerer
from llava.serve.web.inputs import (
    look_at,
    open_upload,
    read_budget,
    read_file,
    read_pruner,
    read_question,
    read_upload,
)
from llava.serve.web.limits import Limits


@dataclass
class Entered:
    """The fields; a value is None if there is a problem with it.

    Attributes:
        image_file, image: the picture, as a file and as RGB.
        question: text of the question.
        budget: K.
        pruner: what chooses the K tokens; None is the page's own.
        is_shown: whether browsers can show the picture.
        problems: one line each, by "image", "question" and "budget".
        advice: advice on a field, likewise.
    """

    image_file: Path | None = None
    image: Image.Image | None = None
    question: str | None = None
    budget: int | None = None
    pruner: str | None = None
    is_shown: bool = False
    problems: dict[str, str] = field(default_factory=dict)
    advice: dict[str, str | None] = field(default_factory=dict)


class Reader:
    """A reader of the page's fields.

    Args:
        answerer: checks the questions.
        uploads: the folder of uploaded files.
        limits: limits of what a visitor may send.
    """

    def __init__(self, answerer: Answerer, uploads: Path, limits: Limits) -> None:
        self._answerer = answerer
        self._uploads = uploads
        self._limits = limits
        self._patches = answerer.model.count_tokens()

    def read(self, upload: object, question: object, kept: object, pruner: object) -> Entered:
        """Reads all fields, which are unchecked JSON values."""
        entered = self.read_text(question, kept)
        with _told(entered.problems, "budget"):
            entered.pruner = read_pruner(pruner)
        picture = self.read_image(upload)
        entered.image_file, entered.image = picture.image_file, picture.image
        entered.is_shown = picture.is_shown
        entered.problems = picture.problems | entered.problems
        entered.advice |= picture.advice
        return entered

    def read_image(self, upload: object) -> Entered:
        """Reads only an upload."""
        entered = Entered()
        with _told(entered.problems, "image"):
            path = read_upload(upload, self._uploads)
            data = read_file(path, self._limits)
            entered.image = open_upload(data, self._limits)
            entered.image_file = path
            entered.is_shown, entered.advice["image"] = look_at(data)
        return entered

    def read_text(self, question: object, kept: object) -> Entered:
        """Reads the question and the budget, which decides which parts read the question."""
        entered = Entered()
        with _told(entered.problems, "budget"):
            entered.budget = read_budget(kept, self._patches)
        with _told(entered.problems, "question"):
            text = read_question(question, self._limits)
            self._answerer.check_question(text, self._patches)
            entered.advice["question"] = self._answerer.check_question(
                text, entered.budget or self._patches
            )
            entered.question = text
        return entered


@contextmanager
def _told(problems: dict[str, str], field: str) -> Iterator[None]:
    """Records the problem with a field instead of raising it."""
    try:
        yield
    except UserError as error:
        problems[field] = str(error)
