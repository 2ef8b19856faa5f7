"""What a browser sends, made sure of before anything is done with it."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from llava.errors import UserError
from llava.mm_utils import IMAGE_FORMATS, load_image
from llava.model.token_pruning.budget import resolve_budget
from llava.serve.web.limits import Limits
from llava.serve.web.uploads import NOT_UPLOADED, find_upload


@dataclass(frozen=True)
class Asked:
    """A question about an uploaded image.

    Attributes:
        image_file: in the folder of uploads.
        question: its text.
    """

    image_file: Path
    question: str


def read_asked(upload: object, question: object, folder: Path, limits: Limits) -> Asked:
    """Makes sure of an upload and a question, as JSON brought them.

    Args:
        upload: what Gradio's browser side says of an uploaded file.
        question: a text.
        folder: where uploads lie; no other file is ever opened.
        limits: of both.

    Raises:
        UserError: there is none of the two, or it is not what it should be.
    """
    return Asked(_read_upload(upload, folder), _read_question(question, limits))


def read_budget(value: object, num_patches: int) -> int:
    """K, as JSON brought it.

    Raises:
        UserError: it is not a whole number from 1 to N.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return resolve_budget(value, None, num_patches).visual_token_num


def open_image(path: Path, limits: Limits) -> Image.Image:
    """Returns an uploaded image as RGB, upright; see load_image.

    Raises:
        UserError: it is too large in bytes or pixels, not an image, damaged, or no longer there.
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
    _check_pixels(data, limits.pixels)
    return load_image(data, upright=True)


def _read_upload(upload: object, folder: Path) -> Path:
    """The path of an uploaded file; where it says that it lies is not to be trusted."""
    if upload is None:
        raise UserError("there is no image yet: upload one, or pick an example")
    path = find_upload(upload.get("path") if isinstance(upload, dict) else None, folder)
    if path is None:
        raise UserError(NOT_UPLOADED)
    return path


def _read_question(question: object, limits: Limits) -> str:
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


def _check_pixels(data: bytes, most: int) -> None:
    """Refuses an image of too many pixels by its header; what is none is load_image's to name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked just below
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
                width, height = image.size
    except Exception:  # whatever a damaged file makes a decoder stumble over
        return
    if width * height > most:
        raise UserError(
            f"the image has {width:,} x {height:,} pixels, and this page takes at most {most:,} "
            "altogether: scale it down"
        )
