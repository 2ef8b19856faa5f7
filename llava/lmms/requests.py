"""Conversion of lmms-eval's requests to samples of the pipeline, and of answers to texts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from llava.constants import DEFAULT_IMAGE_TOKEN
from llava.errors import UserError
from llava.lmms.arguments import LmmsArguments
from llava.method import method_of
from llava.mm_utils import to_rgb
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Sample

# lmms-eval's default end of an answer: it separates examples of a prompt, and would cut answers of
# several paragraphs. LLaVA's own plug-in ignores it too.
EXAMPLE_SEPARATOR = "\n\n"

# Settings of a generation that is not greedy, and their values in greedy generation.
_GREEDY = {
    "temperature": (None, 0),
    "do_sample": (None, False),
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "repetition_penalty": (None, 1),
}

# Pillow's errors for a file that is damaged or not an image. Any other error is a mistake in the
# task and ends the run: it would affect all questions.
_BROKEN: tuple[type[Exception], ...] = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Ending:
    """The conditions that end an answer.

    Attributes:
        until: texts; the answer ends before the first of them.
        max_new_tokens: limit of its tokens.
    """

    until: tuple[str, ...]
    max_new_tokens: int

    def cut(self, text: str) -> str:
        """Returns an answer's text up to its end."""
        for stop in self.until:
            text = text.split(stop, 1)[0]
        return text.strip()


def read_ending(generation: Mapping[str, object], limit: int) -> Ending:
    """Reads the conditions that end answers from a task's generation_kwargs.

    Args:
        generation: until (a text, or several) and max_new_tokens are read.
        limit: max_new_tokens by default.

    Raises:
        UserError: their values cannot be used.
    """
    until = generation.get("until") or []
    until = [until] if isinstance(until, str) else until
    if not isinstance(until, (list, tuple)) or not all(isinstance(stop, str) for stop in until):
        raise UserError(f"until is {until!r} in a task's generation_kwargs: give texts")
    wanted = generation.get("max_new_tokens")
    wanted = limit if wanted is None else wanted
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise UserError(
            f"max_new_tokens is {wanted!r} in a task's generation_kwargs; it must be a whole "
            "number of at least 1"
        )
    return Ending(tuple(stop for stop in until if stop not in ("", EXAMPLE_SEPARATOR)), wanted)


def not_greedy(generation: Mapping[str, object]) -> list[str]:
    """Returns the generation_kwargs of a task that this greedy pipeline ignores."""
    return [
        f"{name}={generation[name]}"
        for name, greedy in _GREEDY.items()
        if generation.get(name) not in greedy
    ]


def question_of(context: str) -> str:
    """Returns the question of a prompt, without image marks and leading blanks.

    The image always comes first, and ACCM reads the first line of the question.
    """
    return context.replace(DEFAULT_IMAGE_TOKEN, "").lstrip()


def read_image(read: Callable[[], object]) -> Image.Image | None:
    """Reads the image of a request.

    Args:
        read: returns what the task shows: an image or a list of them.

    Returns:
        RGB, as LLaVA reads it (see to_rgb); None if there is none.

    Raises:
        UserError: there are several images, a video or sound, or an image that cannot be read.
    """
    try:
        image = _only_image(read())
        return None if image is None else to_rgb(image)
    except _BROKEN as error:
        raise UserError(f"the image cannot be read ({error})") from error


def _only_image(shown: Any) -> Image.Image | None:
    shown = shown if isinstance(shown, (list, tuple)) else [shown]
    shown = [each for each in shown if each is not None]
    if len(shown) > 1:
        raise UserError(f"there are {len(shown)} images: this pipeline reads one with a question")
    if shown and not isinstance(shown[0], Image.Image):
        kind = type(shown[0]).__name__
        raise UserError(f"there is a {kind}, not an image: this pipeline reads no video or sound")
    return shown[0] if shown else None


def make_sample(
    model: LlavaAccm,
    args: LmmsArguments,
    context: str,
    image: Image.Image | None,
    max_new_tokens: int,
    name: str | None = None,
) -> Sample:
    """Returns a sample that can be answered; without an image, the LLM reads only the prompt.

    Args:
        model: the model that answers it.
        args: the model arguments.
        context: the prompt.
        image: RGB or None.
        name: of the request, by which a file of texts may know it.
        max_new_tokens: limit of the answer; lowered to the LLM's room, which some tasks exceed.

    Raises:
        UserError: the sample cannot be answered.
    """
    how = method_of(args)
    if image is None:  # then there is no budget to split
        image, how = Image.new("RGB", (1, 1)), how | {"no_image": True, "view_split": None}
    sample = Sample(image, question_of(context), id=name, **how)
    room = model.language_model.context_length - model.prompt_length(sample)
    sample = replace(sample, max_new_tokens=max(1, min(max_new_tokens, room)))
    model.check(sample)
    return sample
