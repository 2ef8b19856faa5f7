"""The method in three lines: from_pretrained, answer, figure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path

from PIL import Image

from llava.errors import UserError
from llava.eval.figure import save_picture, trace_picture
from llava.files import check_target
from llava.mm_utils import load_image, to_rgb
from llava.model.builder import load_pretrained_model
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.sample import (
    DEFAULT_MAX_NEW_TOKENS,
    DEFAULT_SEED,
    Answer,
    Sample,
    check_number,
)

ImageSource = Image.Image | str | PathLike | bytes
DEFAULT_BATCH_SIZE = 8


@dataclass(frozen=True)
class Result:
    """An answer, and how it came about.

    Attributes:
        text: the answer.
        caption: what the LLM was told of the tokens that it did not see; None where nothing was
            pruned, or nothing given back.
        kept_idx: the patches that the LLM saw, row by row from the upper left, in its order.
        seconds: what each stage took, for the whole batch that the question was answered in.
        answer: everything else: candidates, scores, reasons.
    """

    text: str
    caption: str | None
    kept_idx: list[int]
    seconds: dict[str, float]
    answer: Answer = field(repr=False)
    _model: LlavaAccm = field(repr=False)
    _image: Image.Image = field(repr=False)
    _question: str = field(repr=False)

    def figure(self, path: str | PathLike | None = None) -> Image.Image:
        """A picture of what was kept, written and answered.

        Args:
            path: a PNG to write it to as well.

        Raises:
            UserError: it cannot be written there.
        """
        picture = trace_picture(self._model, self._image, self._question, self.answer)
        if path is not None:
            check_target(Path(path))
            save_picture(picture, Path(path))
        return picture


class Accm:
    """LLaVA-1.5 with ACCM, to ask about images.

    Args:
        model: from load_pretrained_model.
        visual_token_num: visual tokens that stay of an image; None takes VISUAL_TOKEN_NUM of
            clip_encoder.py.
    """

    def __init__(self, model: LlavaAccm, visual_token_num: int | None = None) -> None:
        self.model = model
        self.visual_token_num = visual_token_num

    @classmethod
    def from_pretrained(
        cls, model_path: str | PathLike, visual_token_num: int | None = None, **settings: object
    ) -> Accm:
        """Loads a model.

        Args:
            model_path: a folder of checkpoints, or a name on the Hugging Face hub.
            visual_token_num: see Accm.
            settings: device, dtype and the other fields of ModelArguments.

        Raises:
            UserError: a part is missing, damaged or of another model, or a setting is wrong.
        """
        _, model, _, _ = load_pretrained_model(str(model_path), **settings)
        return cls(model, visual_token_num)

    def answer(
        self,
        image: ImageSource | Sequence[ImageSource],
        question: str | Sequence[str],
        visual_token_num: int | None = None,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        seed: int = DEFAULT_SEED,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> Result | list[Result]:
        """Answers a question about an image, or several.

        Args:
            image: an image, a file or the bytes of one; or a list. Each is opened and encoded once,
                and upright: the rotation that a camera noted down is heeded.
            question: a text; or a list. Where one of the two is a list, the other one goes with
                each of its items; two lists go together item by item.
            visual_token_num: tokens that stay; None takes those of this object.
            max_new_tokens: limit of an answer.
            seed: of the one random draw of each question.
            batch_size: questions that go through the model together; it changes how long it takes,
                and how much memory, and no answer.

        Returns:
            A Result, or a list of them where a list was given.

        Raises:
            UserError: no such image, or a question or setting that cannot be used.
        """
        check_number("batch_size", batch_size, 1)
        pairs = _pairs(image, question)
        opened = {key: _open(each) for key, each in {_key(each): each for each, _ in pairs}.items()}
        kept = self.visual_token_num if visual_token_num is None else visual_token_num
        samples = [
            Sample(
                opened[_key(each)],
                text,
                visual_token_num=kept,
                seed=seed,
                max_new_tokens=max_new_tokens,
            )
            for each, text in pairs
        ]
        for sample in samples:  # what is wrong shows before the first batch is answered
            self.model.check(sample)
        memory, results = Memory(), []
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            results += map(self._result, batch, self.model.answer(batch, memory=memory))
        return results if _is_list(image) or _is_list(question) else results[0]

    def _result(self, sample: Sample, answer: Answer) -> Result:
        compensation = answer.compensation
        return Result(
            text=answer.text,
            caption=compensation and compensation.chosen_caption.strip(),
            kept_idx=answer.kept_idx,
            seconds=answer.seconds,
            answer=answer,
            _model=self.model,
            _image=sample.image,
            _question=sample.question,
        )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _pairs(image: object, question: object) -> list[tuple[ImageSource, str]]:
    """Images and questions side by side.

    Raises:
        UserError: two lists of different lengths.
    """
    images = list(image) if _is_list(image) else [image]
    questions = list(question) if _is_list(question) else [question]
    if not _is_list(image):
        images = images * len(questions)
    elif not _is_list(question):
        questions = questions * len(images)
    if len(images) != len(questions):
        raise UserError(
            f"there are {len(images)} images and {len(questions)} questions: give as many of the "
            "one as of the other, or a single one"
        )
    return list(zip(images, questions))


def _key(image: ImageSource) -> Hashable:
    """Names an image: one that is asked about several times is opened once."""
    if isinstance(image, (str, PathLike)):
        return fspath(image)
    return image if isinstance(image, bytes) else id(image)


def _open(image: ImageSource) -> Image.Image:
    """Returns an image as RGB, upright.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image, upright=True)
    if not isinstance(image, (str, PathLike, bytes)):
        raise UserError(
            f"the image is of type {type(image).__name__}: give a PIL image, a path, or a file's "
            "bytes"
        )
    return load_image(image, upright=True)
