"""Caches: pixels of one run; model, fingerprints and encoded images of the runs of a process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from cachetools import LRUCache
from torch import Tensor

from llava.arguments import ModelArguments
from llava.compensations import CAPTIONS, NOTHING
from llava.conversation import check_text
from llava.errors import UserError
from llava.mm_utils import load_image
from llava.model.backbones.pixels import Pixels
from llava.model.builder import load_from_arguments, with_compensation
from llava.model.compensation.remembered import remembering
from llava.model.llava_arch import LlavaAccm
from llava.model.loading.fingerprint import fingerprint
from llava.model.memory import MEMORY_LIMIT
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, VisualTokens

QUESTIONS_AT_ONCE = 32  # questions per batch of the text tower
# Of a patch of LLaVA-1.5-7B in float32, if all is needed that any pruner reads: features, keys of
# two layers, embeddings, and the projected features.
_BYTES_OF_A_PATCH = 36 << 10
READERS = min(8, max(2, (os.cpu_count() or 2) // 2))  # threads
IMAGES_KEPT = 64  # the last ones read, for later questions: 1.4 MB each at 336 pixels

Images = Mapping[Path | bytes, VisualTokens]


def images_at_once(num_patches: int) -> int:
    """Returns how many encoded images of N patches fit into MEMORY_LIMIT, at the least."""
    return max(1, MEMORY_LIMIT // (num_patches * _BYTES_OF_A_PATCH))


class PixelReader(AbstractContextManager):
    """A reader and preprocessor of images that remembers the last ones.

    Args:
        model: defines the preprocessing.
    """

    def __init__(self, model: LlavaAccm) -> None:
        self._model = model
        self._threads = ThreadPoolExecutor(READERS)
        self._last: LRUCache = LRUCache(IMAGES_KEPT)

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def start(self, image: Path | bytes) -> Future[Pixels]:
        """Starts to read an image, a file or its bytes.

        Returns:
            A future with the tower's input for it, or with a UserError.
        """
        if image not in self._last:
            self._last[image] = self._threads.submit(
                lambda: self._model.preprocess([load_image(image)])[0]
            )
        return self._last[image]


class UnitMemory:
    """The encoded images of units of work, for further runs with the same model.

    The first units are kept; those without room are encoded each time: units recur in the same
    order, so that dropping the oldest would drop each just before it is needed. Only whole units
    are kept: an image is always encoded in the same batch.

    Attributes:
        keeps: whether it has any room.
        needs: what the further runs read of an image beside its features.

    Args:
        limit: size in bytes.
        needs: see the attribute.
    """

    def __init__(self, limit: int = MEMORY_LIMIT, needs: Needs = OF_IMAGE) -> None:
        self.keeps = limit > 0
        self.needs = needs
        self._room = limit
        self._units: dict[tuple[Path | bytes, ...], Images] = {}

    def find(self, names: tuple[Path | bytes, ...], needs: Needs = Needs.NOTHING) -> Images | None:
        """Returns the images of a unit; None if they are not kept with all that is needed."""
        images = self._units.get(names)
        if images is not None and needs and not all(i.has(needs) for i in images.values()):
            return None
        return images

    def keep(self, names: tuple[Path | bytes, ...], images: Images) -> None:
        """Keeps the images of a unit if there is room and none of them is missing."""
        size = _size(images)
        room = self._room + _size(self._units.get(names, {}))
        if len(images) == len(names) and size <= room:
            self._room = room - size
            self._units[names] = images


def _size(images: Images) -> int:
    """Returns the bytes that the images of a unit take."""
    return sum(image.nbytes for image in images.values())


class QuestionMemory:
    """The text tower's embeddings of the questions of a run, each encoded once.

    The tower's batches depend only on all the questions of the run: not on which are answered
    already, nor on the number of processes. So the last digits of an embedding, and with them the
    choice of tokens, do not depend on these either.

    Args:
        questions: the tower questions of all requests.
    """

    def __init__(self, questions: Iterable[str]) -> None:
        distinct = [question for question in dict.fromkeys(questions) if _is_readable(question)]
        starts = range(0, len(distinct), QUESTIONS_AT_ONCE)
        companies = [distinct[start : start + QUESTIONS_AT_ONCE] for start in starts]
        self._company = {question: company for company in companies for question in company}
        self._embeds: dict[str, Tensor] = {}

    def find(self, model: LlavaAccm, question: str) -> Tensor | None:
        """Returns the embedding (P,) of a question; None for one that was not among them."""
        if question not in self._company:
            return None
        if question not in self._embeds:
            company = self._company[question]
            self._embeds.update(zip(company, model.encode_questions(company)))
        return self._embeds[question]


def _is_readable(question: str) -> bool:
    """Returns whether a question can be encoded; one that cannot must not fail the others."""
    try:
        check_text("question", question)
    except UserError:
        return False
    return True


def _of_run(model: LlavaAccm) -> LlavaAccm:
    """Returns a model for the runs of one process: the same, but that it keeps scene graphs."""
    graphs = remembering(model.compensator)
    return model if graphs is model.compensator else model.with_compensator(graphs).eval()


class Shared:
    """Objects that several runs with the same model share, each made on first use.

    Attributes:
        fingerprint: returns the fingerprint of a checkpoint, computed once.
        images: memory for the current benchmark. The default keeps none; a caller that answers a
            benchmark several times replaces it by one with room.

    Args:
        compensation: whether any of the runs uses ACCM's captions: their parts are then loaded with
            the model, and its other compensations when they are asked for.
    """

    def __init__(self, compensation: bool) -> None:
        self.images = UnitMemory(limit=0)
        self.fingerprint = lru_cache(maxsize=None)(fingerprint)
        self._compensation = compensation
        self._models: dict[str, LlavaAccm] = {}
        self._texts: tuple[list[str], QuestionMemory] = ([], QuestionMemory(()))

    def load(self, args: ModelArguments) -> LlavaAccm:
        """Returns the model with the compensation of a run; the other parts are always the same.

        Args:
            args: the same for all runs, except ``compensation`` and ``oracle``, which stays the
                same where there is one.

        Raises:
            UserError: as load_from_arguments.
        """
        name = args.compensation_name
        if not self._models:
            first = CAPTIONS if self._compensation and name == NOTHING else name
            asked = args if first == name else replace(args, compensation=first)
            self._models[first] = _of_run(load_from_arguments(asked))
            self._models.setdefault(NOTHING, self._models[first].without_captions())
        if name not in self._models:
            self._models[name] = _of_run(with_compensation(self._models[NOTHING], args))
        return self._models[name]

    def texts(self, questions: list[str]) -> QuestionMemory:
        """Returns the memory of a benchmark's questions, in their order; the last one is kept."""
        if self._texts[0] != questions:
            self._texts = (questions, QuestionMemory(questions))
        return self._texts[1]
