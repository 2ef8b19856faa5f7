"""Checks of the values that a browser sends, before any use."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image

from llava.errors import UserError, quoted
from llava.images import check_pixels
from llava.method import ALL_TOKENS, NO_TOKENS
from llava.mm_utils import IMAGE_FORMATS, load_image
from llava.model.token_pruning.registry import PRUNERS, find_pruner
from llava.serve.web.limits import Limits
from llava.serve.web.uploads import NOT_UPLOADED, find_upload

# The pruners that a visitor may choose.
SOME_TOKENS = [name for name in PRUNERS if name not in (ALL_TOKENS, NO_TOKENS)]
_SHOWN_BY_BROWSERS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")


def read_upload(upload: object, folder: Path) -> Path:
    """Returns the path of an uploaded file from a JSON value.

    Args:
        upload: the description by Gradio's browser side, whose path is not trusted.
        folder: the folder of uploads; no other file is ever opened.

    Raises:
        UserError: there is none.
    """
    if upload is None:
        raise UserError("there is no image yet: upload one, or pick an example")
    path = find_upload(upload.get("path") if isinstance(upload, dict) else None, folder)
    if path is None:
        raise UserError(NOT_UPLOADED)
    return path


def read_question(question: object, limits: Limits) -> str:
    """Returns a question from a JSON value, without surrounding blanks.

    Raises:
        UserError: there is none, or it is too long or not a text.
    """
    if question is None or isinstance(question, str) and not question.strip():
        raise UserError("there is no question yet: write what is asked about the image")
    if not isinstance(question, str):
        raise UserError("the question is not a text")
    if len(question) > limits.question_length:
        raise UserError(
            f"the question has {len(question):,} characters; this page takes at most "
            f"{limits.question_length:,}: shorten it"
        )
    return question.strip()


def read_budget(value: object, num_patches: int) -> int:
    """Returns K from a JSON value.

    Raises:
        UserError: it is not a whole number from 1 to N.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 1 <= value <= num_patches:
        raise UserError(
            f"the number of tokens to keep is {quoted(value)}: a whole number from 1 to "
            f"{num_patches}"
        )
    return value


def read_pruner(value: object) -> str | None:
    """Returns the name of a pruner from a JSON value; None leaves it to the page.

    Raises:
        UserError: there is no such pruner that keeps some of the tokens.
    """
    if value is None:
        return None
    name = find_pruner(value).name
    if name not in SOME_TOKENS:
        raise UserError(f"{name} keeps all tokens or none: move the slider, or choose another rule")
    return name


def read_file(path: Path, limits: Limits) -> bytes:
    """Reads an uploaded file.

    Raises:
        UserError: it is too large, or no longer exists.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limits.upload_bytes + 1)
    except OSError as error:
        raise UserError(NOT_UPLOADED) from error
    if len(data) > limits.upload_bytes:
        raise UserError(
            f"the image has more than {limits.upload_bytes:,} bytes, the limit of this page: "
            "save it smaller"
        )
    return data


def open_upload(data: bytes, limits: Limits) -> Image.Image:
    """Returns an uploaded image as RGB, upright; see load_image.

    Raises:
        UserError: it has too many pixels, is not an image, or is damaged.
    """
    check_pixels(data, limits.pixels, "this page")
    return load_image(data, upright=True, name="the image")


def look_at(data: bytes) -> tuple[bool, str | None]:
    """Returns whether browsers can show an image that open_upload has read, and a note on it.

    The note is for the visitor; None if browser and model see the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # open_upload has checked
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            if image.format not in _SHOWN_BY_BROWSERS:
                return False, f"the model reads {image.format} files; browsers do not show them"
            moves = _is_animated(image)
    return True, "the model sees the first frame of the animation" if moves else None


def _is_animated(image: Image.Image) -> bool:
    """Returns whether there is a second frame, without reading the others."""
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # a decoder may raise anything on a damaged frame
        return False
