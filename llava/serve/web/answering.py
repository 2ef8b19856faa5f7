"""The model behind the page: one answer at a time, word by word, while somebody reads it.

Questions that are too long for a part of the model are found by counting tokens, before there is an
image.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Event

from PIL import Image

from llava.errors import TooLong, UserError
from llava.method import DEFAULT_PRUNER, Method
from llava.model.compensation.compensator import Compensator
from llava.model.compensation.selector import selector_text
from llava.model.compensation.sums import find_term
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Answer, Sample
from llava.serve.chat import TextPieces

STOPPED = "the page is being stopped: ask again when it is back"
_NO_PICTURE = Image.new("RGB", (1, 1))  # of the fewest tokens, while the real one is unknown


@dataclass(frozen=True)
class Timed:
    """An answer, and the seconds from the question to its end."""

    answer: Answer
    seconds: float

    def record(self) -> dict:
        """Returns details for JSON: total and stage seconds, scores in order of the captions."""
        supplement = self.answer.supplement
        return {
            "text": self.answer.text,
            "kept_idx": self.answer.kept_idx,
            "caption": supplement and supplement.told,
            "candidates": [text.strip() for text in supplement.candidates] if supplement else [],
            "scores": list(supplement.scores) if supplement else [],
            "seconds": self.seconds,
            "stages": self.answer.seconds,
        }


class Answerer:
    """Answers questions in its own thread, in the order of their arrival.

    Nothing is cached from one question to the next: all are answered and timed alike, and memory
    does not grow.

    Args:
        model: the model.
        method: how a question is asked where a visitor does not say it.
        max_new_tokens: limit of an answer.
    """

    def __init__(self, model: LlavaAccm, method: Method, max_new_tokens: int) -> None:
        self.model = model
        self.method = method
        self.max_new_tokens = max_new_tokens
        self._closed = Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def sample(
        self,
        image: Image.Image,
        question: str,
        visual_token_num: int,
        pruner: str | None = None,
    ) -> Sample:
        """Returns a checked question about an RGB image; a pruner of None is the page's own.

        Raises:
            UserError: it cannot be answered.
        """
        method = replace(self.method, visual_token_num=visual_token_num)
        if pruner not in (None, method.pruner):
            method = replace(method, pruner=pruner, pruner_options=(), view_split=None)
        sample = Sample(image, question, max_new_tokens=self.max_new_tokens, **vars(method))
        self.model.check(sample)
        return sample

    def check_question(
        self, question: str, visual_token_num: int, pruner: str | None, image: Image.Image | None
    ) -> str | None:
        """Checks a question; see the function check_question.

        Args:
            question: text of the question.
            visual_token_num: K.
            pruner: chooses the tokens; None is the page's own.
            image: the RGB image, if it is known.
        """
        return check_question(
            self.model,
            question,
            visual_token_num,
            self.max_new_tokens,
            pruner or self.method.pruner,
            image or _NO_PICTURE,
        )

    def stream(self, sample: Sample) -> Generator[str | Timed, None, None]:
        """Answers a question; closing the iterator early ends the work.

        Yields:
            Pieces of the answer as they are decoded, and finally the whole.

        Raises:
            UserError: The page is being stopped.
        """
        pieces: SimpleQueue[str | None] = SimpleQueue()
        left = Event()

        def tell(text: str) -> None:
            if left.is_set() or self._closed.is_set():
                raise _Left
            pieces.put(text)

        if self._closed.is_set():
            raise UserError(STOPPED)
        work = self._thread.submit(self._answer, sample, tell)
        work.add_done_callback(lambda _: pieces.put(None))
        try:
            yield from iter(pieces.get, None)
        finally:
            left.set()
            work.cancel()
        try:
            yield work.result()
        except (_Left, CancelledError):
            raise UserError(STOPPED) from None

    def close(self) -> None:
        """Refuses further questions, and ends the present answer at its next token."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, sample: Sample, tell: Callable[[str], None]) -> Timed:
        pieces = TextPieces(self.model.language_model.tokenizer.decode, tell)
        start = time.perf_counter()
        (answer,) = self.model.answer([sample], on_token=pieces.add)
        return Timed(answer, time.perf_counter() - start)


class _Left(Exception):
    """The reader has left."""


def check_question(
    model: LlavaAccm,
    question: str,
    visual_token_num: int,
    max_new_tokens: int,
    pruner: str = DEFAULT_PRUNER,
    image: Image.Image = _NO_PICTURE,
) -> str | None:
    """Checks that a question can be answered from a number of visual tokens.

    Returns:
        A note on a part that does not read the question to its end, with advice, or None.

    Raises:
        UserError: It is not a question, or it is too long for a part.
    """
    sample = Sample(
        image,
        question,
        visual_token_num=visual_token_num,
        pruner=pruner,
        max_new_tokens=max_new_tokens,
    )
    try:
        model.check(sample)
    except TooLong as error:
        length = len(error.question)
        raise UserError(
            f"the question is too long for the {error.part}: shorten it by some "
            f"{math.ceil(length * error.share):,} of its {length:,} characters"
        ) from error
    return _unread(model, sample.question_of_the_method) if model.is_pruned(sample) else None


def _unread(model: LlavaAccm, question: str) -> str | None:
    """Returns a note on what pruning and compensation do not read of a question."""
    clip, tokenizer = model.backbone.clip, model.backbone.clip_tokenizer
    if clip is None or tokenizer is None:
        return None
    most, length = clip.max_text_length, len(tokenizer.encode(question, sys.maxsize))
    if length <= most:
        return None
    first = len(question) * most // length
    crowded = ", and LongCLIP, which chooses a caption, may not see the captions' ends"
    return (
        "the question is long: CLIP's text tower, by which patches are kept, reads about the "
        f"first {first:,} of its {len(question):,} characters"
        f"{crowded if _is_crowded(model, question) else ''}; shorten it, or begin with what is"
        " asked"
    )


def _is_crowded(model: LlavaAccm, question: str) -> bool:
    """Returns whether question and longest caption together exceed LongCLIP's length."""
    parts = find_term(model.compensator, Compensator)
    if parts is None:
        return False
    length = parts.long_clip.tokenize([selector_text(question, "")]).shape[1]
    return length + parts.max_length > parts.long_clip.tower.context_length
