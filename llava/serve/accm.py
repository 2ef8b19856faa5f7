"""ACCM in three lines: from_pretrained, answer, figure."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llava.budgets import AskedBudget
from llava.errors import UserError
from llava.eval.figure import save_picture, trace_picture
from llava.image_url import open_image
from llava.method import DEFAULT_PRUNER, DEFAULT_SEED, Method, Options
from llava.mini.likeness import warning_of
from llava.mm_utils import to_rgb
from llava.model.builder import load_pretrained_model
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.multimodal_encoder import clip_encoder
from llava.model.sample import (
    DEFAULT_MAX_NEW_TOKENS,
    Answer,
    AnswerSettings,
    Sample,
    check_number,
)
from llava.model.token_pruning.registry import resolved
from llava.namesakes import warn_of_namesakes
from llava.serve.chat import NO_WORDS

ImageSource = Image.Image | np.ndarray | str | PathLike | bytes
DEFAULT_BATCH_SIZE = 8

# How a model is described by what its compensation writes.
_TEXTS = {"a caption": "captions", "": "no captions"}


@dataclass(frozen=True, repr=False)
class Result:
    """An answer, with the steps that led to it.

    Attributes:
        text: the answer.
        caption: the caption that the LLM read in place of dropped tokens; None without pruning or
            compensation; "" if the selector chose the empty caption.
        kept_idx: the patches that the LLM saw, in its order, numbered from the upper left by row.
        seconds: time of each stage, for the whole batch of the question.
        answer: all other details: candidates, scores, reasons.
    """

    text: str
    caption: str | None
    kept_idx: list[int]
    seconds: dict[str, float]
    answer: Answer
    _model: LlavaAccm
    _sample: Sample

    def __repr__(self) -> str:
        caption = "no caption" if self.caption is None else f"caption {self.caption!r}"
        patches = self._model.count_tokens(self._sample.image)
        kept = f"{len(self.kept_idx)} of {patches} visual tokens"
        return f"Result({self.text!r}, {kept}, {caption}, {sum(self.seconds.values()):.2f} s)"

    def figure(self, path: str | PathLike | None = None) -> Image.Image:
        """Returns a picture of the kept patches, the captions and the answer.

        Args:
            path: a file to write it to, in the format of its ending (.png, .jpg, ...).

        Raises:
            UserError: it cannot be written there, or the ending is not a picture's.
        """
        image: Any = self._sample.image  # images that are encoded already are none of its inputs
        picture = trace_picture(self._model, image, self._sample.question, self.answer)
        if path is not None:
            save_picture(picture, Path(path))
        return picture


class Accm:
    """A model with ACCM, for questions about images.

    Args:
        model: model from load_pretrained_model.
        visual_token_num: visual tokens kept per image: a number, or a text such as "1/9", "11%" or
            "all"; None takes VISUAL_TOKEN_NUM of clip_encoder.py.
        pruner: chooses the visual tokens.
        pruner_options: its settings, values by name.
        view_split: how the budget is spread over several views of an image; see Method.
    """

    def __init__(
        self,
        model: LlavaAccm,
        visual_token_num: AskedBudget | None = None,
        pruner: str = DEFAULT_PRUNER,
        pruner_options: Options = (),
        view_split: str | None = None,
    ) -> None:
        self.model = model
        self.method = Method(
            visual_token_num, pruner=pruner, pruner_options=pruner_options, view_split=view_split
        )

    def __repr__(self) -> str:
        model, place = self.model, next(self.model.tower.parameters())
        kept, pruner = self.method.visual_token_num, self.method.pruner
        kept = clip_encoder.VISUAL_TOKEN_NUM if kept is None else kept
        up_to = "up to " * model.backbone.images_differ
        parts = [
            model.about.line or model.about.name,
            f"{kept} of {up_to}{model.count_tokens()} visual tokens",
            *([] if pruner == DEFAULT_PRUNER else [f"pruner {pruner}"]),
            _TEXTS.get(model.writes, model.writes),
            f"{str(place.dtype).removeprefix('torch.')} on {place.device}",
        ]
        return f"Accm({'; '.join(parts)})"

    @classmethod
    def from_pretrained(
        cls,
        model_path: str | PathLike,
        visual_token_num: AskedBudget | None = None,
        pruner: str = DEFAULT_PRUNER,
        pruner_options: Options = (),
        view_split: str | None = None,
        **settings: Any,
    ) -> Accm:
        """Loads a model.

        Args:
            model_path: a folder of checkpoints, or a name on the Hugging Face hub.
            visual_token_num, pruner, pruner_options, view_split: see Accm.
            settings: device, dtype and the other fields of ModelArguments.

        Raises:
            UserError: a part is missing, damaged or from another model, or a setting is wrong.
        """
        warn_of_namesakes()
        resolved(Method(pruner=pruner, pruner_options=pruner_options))  # errors show at once
        _, model, _, _ = load_pretrained_model(str(model_path), **settings)
        return cls(model, visual_token_num, pruner, pruner_options, view_split)

    def answer(
        self,
        image: ImageSource | Sequence[ImageSource],
        question: str | Sequence[str],
        visual_token_num: AskedBudget | None = None,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        seed: int = DEFAULT_SEED,
        batch_size: int = DEFAULT_BATCH_SIZE,
        temperature: float = 0.0,
        top_p: float | None = None,
        num_beams: int = 1,
        pruner: str | None = None,
        pruner_options: Options | None = None,
    ) -> Result | list[Result]:
        """Answers a question about an image, or several.

        Args:
            image: an image, an array (H, W, 3) uint8, a file, its URL or its bytes; or a list. Each
                is opened and encoded once, with the rotation that a camera recorded. A warning is
                given for an image far from the kind that the model's card (README.md) names, if
                any.
            question: a text; or a list. If only one of the two is a list, the other is used with
                each of its items; two lists are paired item by item.
            visual_token_num: tokens kept, as in Accm; None takes this object's.
            max_new_tokens: limit of an answer.
            seed: seed of the random draws of each question; the same seed gives the same answer.
            batch_size: questions per pass through the model; it changes time and memory, and no
                answer.
            temperature: 0 takes the likeliest token each time; above 0, tokens are sampled.
            top_p: samples only from the likeliest tokens that together have this probability.
            num_beams: above 1, beam search with this number of beams.
            pruner: chooses the visual tokens; None takes this object's, with its options.
            pruner_options: settings of the pruner, values by name; None takes its defaults, or this
                object's if the pruner is its own.

        Returns:
            A Result, or a list of them if a list was given.

        Raises:
            UserError: no such image, or a question or setting cannot be used.
        """
        check_number("batch_size", batch_size, 1)
        pairs = _pairs(image, question)
        opened = {key: _open(each) for key, each in {_key(each): each for each, _ in pairs}.items()}
        method = replace(self.method, seed=seed)
        if visual_token_num is not None:
            method = replace(method, visual_token_num=visual_token_num)
        if pruner is not None:
            method = replace(method, pruner=pruner, pruner_options=())
        if pruner_options is not None:
            method = replace(method, pruner_options=pruner_options)
        how = AnswerSettings(max_new_tokens, temperature, top_p, num_beams)
        samples = [
            Sample(opened[_key(each)], text, image_name=_name(each), **vars(method), **vars(how))
            for each, text in pairs
        ]
        for sample in samples:  # errors show before the first batch is answered
            self.model.check(sample)
        for picture in opened.values():
            if unlike := warning_of(self.model.about, picture):
                warnings.warn(unlike, stacklevel=2)
        memory = Memory()
        results: list[Result] = []
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            results += map(self._result, batch, self.model.answer(batch, memory=memory))
        return results if _is_list(image) or _is_list(question) else results[0]

    def _result(self, sample: Sample, answer: Answer) -> Result:
        supplement = answer.supplement
        if not answer.text:
            warnings.warn(f"{sample.question[:60]!r}: {NO_WORDS}", stacklevel=3)
        return Result(
            text=answer.text,
            caption=None if supplement is None else supplement.told,
            kept_idx=answer.kept_idx,
            seconds=answer.seconds,
            answer=answer,
            _model=self.model,
            _sample=sample,
        )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _pairs(image: Any, question: Any) -> list[tuple[ImageSource, str]]:
    """Pairs images and questions.

    Raises:
        UserError: the two lists have different lengths.
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
    """Returns the key of an image, which is opened once for all its questions."""
    if isinstance(image, (str, PathLike)):
        return fspath(image)
    return image if isinstance(image, bytes) else id(image)


def _name(image: ImageSource) -> str | None:
    """Returns the name of an image's file, if it is one."""
    return Path(fspath(image)).name if isinstance(image, (str, PathLike)) else None


def _open(image: ImageSource) -> Image.Image:
    """Returns an image as RGB, upright.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if isinstance(image, Image.Image):
        return to_rgb(image, upright=True)
    if not isinstance(image, (str, PathLike, bytes)):
        raise UserError(
            f"the image is of type {type(image).__name__}: give a PIL image, an array, a path, "
            "a URL, or a file's bytes"
        )
    return open_image(image, upright=True)


def _from_array(array: np.ndarray) -> Image.Image:
    """Returns an array (H, W, 3) uint8 as an image.

    Raises:
        UserError: it has another shape or dtype.
    """
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise UserError(
            f"the image is an array of shape {array.shape} and dtype {array.dtype}: give (height, "
            "width, 3) of uint8, red, green and blue from 0 to 255"
        )
    return Image.fromarray(array)
