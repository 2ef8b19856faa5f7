"""What the runs of one process share: the model, checkpoints' fingerprints, encoded images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from llava.conversation import check_text
from llava.errors import UserError
from llava.model.builder import ModelArguments, load_from_arguments
from llava.model.fingerprint import fingerprint
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import MEMORY_LIMIT
from llava.model.multimodal_encoder.clip_encoder import EncodedImage

QUESTIONS_AT_ONCE = 32  # how many go through the text tower together

Images = Mapping[Path | bytes, EncodedImage]


class UnitMemory:
    """The encoded images of units of work that several runs with one model meet again.

    What comes first stays, and what has no room any more is encoded each time: units come round in
    the same order, so that dropping the oldest would drop each just before it is needed. Whole
    units are kept, never a part of one: an image is always encoded in the same company.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self._room = limit
        self._units: dict[tuple[Path | bytes, ...], Images] = {}

    def find(self, names: tuple[Path | bytes, ...]) -> Images | None:
        """The images of a unit; None where they are not here."""
        return self._units.get(names)

    def keep(self, names: tuple[Path | bytes, ...], images: Images) -> None:
        """Keeps the images of a unit where there is room, and where none of them is missing."""
        size = sum(image.nbytes for image in images.values())
        if len(images) == len(names) and size <= self._room:
            self._room -= size
            self._units[names] = images


class QuestionMemory:
    """What the text tower says of the questions of a run, each of them encoded once.

    Questions go through the tower in companies that depend on nothing but all the questions of the
    run: not on which are answered already, nor on the number of processes. So the last digits of
    an embedding, and with them the choice of tokens, do not depend on them either.

    Args:
        questions: of all requests, as the method reads them.
    """

    def __init__(self, questions: Iterable[str]) -> None:
        distinct = [question for question in dict.fromkeys(questions) if _is_readable(question)]
        starts = range(0, len(distinct), QUESTIONS_AT_ONCE)
        companies = [distinct[start : start + QUESTIONS_AT_ONCE] for start in starts]
        self._company = {question: company for company in companies for question in company}
        self._embeds: dict[str, Tensor] = {}

    def find(self, model: LlavaAccm, question: str) -> Tensor | None:
        """The embedding (P,) of a question; None for one that was not announced."""
        if question not in self._company:
            return None
        if question not in self._embeds:
            company = self._company[question]
            self._embeds.update(zip(company, model.encode_questions(company)))
        return self._embeds[question]


def _is_readable(question: str) -> bool:
    """Whether a question can be encoded; one that cannot shall not cost others their answers."""
    try:
        check_text("question", question)
    except UserError:
        return False
    return True


class Shared:
    """What several runs with the same model hand on to each other; each thing is made when needed.

    Attributes:
        images: of the benchmark that is being answered. At first it keeps none; who asks a
            benchmark several times puts one with room in its place.

    Args:
        compensation: whether any of the runs gives captions back: then all parts are loaded.
    """

    def __init__(self, compensation: bool) -> None:
        self.images = UnitMemory(limit=0)
        self._compensation = compensation
        self._model: LlavaAccm | None = None
        self._fingerprints: dict[Path, str] = {}
        self._texts: tuple[list[str], QuestionMemory] = ([], QuestionMemory(()))

    def load(self, args: ModelArguments) -> LlavaAccm:
        """The model; a run without captions gets it without what writes them.

        Args:
            args: the same for all runs, but for ``compensation``.

        Raises:
            UserError: as load_from_arguments.
        """
        if self._model is None:
            self._model = load_from_arguments(
                dataclasses.replace(args, compensation=self._compensation)
            )
        return self._model if args.compensation else self._model.without_captions()

    def fingerprint(self, path: Path) -> str:
        """The fingerprint of a checkpoint, computed once.

        Raises:
            UserError: it cannot be read.
        """
        if path not in self._fingerprints:
            self._fingerprints[path] = fingerprint(path)
        return self._fingerprints[path]

    def texts(self, questions: list[str]) -> QuestionMemory:
        """The memory of a benchmark's questions, in their order; the last one is kept."""
        if self._texts[0] != questions:
            self._texts = (questions, QuestionMemory(questions))
        return self._texts[1]
