"""The values that a browser sends, checked before any use: field by field, with their problems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from llava.budgets import count_kept
from llava.errors import UserError, quoted
from llava.images import check_pixels, opened
from llava.method import ALL_TOKENS, NO_TOKENS
from llava.mm_utils import load_image
from llava.model.token_pruning.registry import PRUNERS, find_pruner
from llava.serve.web.answering import Answerer
from llava.serve.web.arguments import Limits
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
    if len(question) > limits.max_question_length:
        raise UserError(
            f"the question has {len(question):,} characters; this page takes at most "
            f"{limits.max_question_length:,}: shorten it"
        )
    return question.strip()


def read_budget(value: object, num_patches: int, most: int | None = None) -> int:
    """Returns K from a JSON value: a number, as of the slider, or a share, as a program may give.

    Args:
        value: unchecked.
        num_patches: N of the image, which is K of a number above it.
        most: the largest N of any image; None if all have the same.

    Raises:
        UserError: it is not a whole number from 1 to the largest N, and no share of N.
    """
    kept, most = value, num_patches if most is None else most
    if isinstance(value, float) and value.is_integer():
        kept = int(value)
    elif isinstance(value, str):
        with suppress(ValueError):
            kept = count_kept(value, num_patches)
    if type(kept) is not int or not 1 <= kept <= most:
        raise UserError(
            f"the number of tokens to keep is {quoted(value)}: a whole number from 1 to "
            f"{most}, or a share such as 1/9 or 11%"
        )
    return min(kept, num_patches)


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
            data = file.read(limits.max_upload_bytes + 1)
    except OSError as error:
        raise UserError(NOT_UPLOADED) from error
    if len(data) > limits.max_upload_bytes:
        raise UserError(
            f"the image has more than {limits.max_upload_bytes:,} bytes, the limit of this page: "
            "save it smaller"
        )
    return data


def open_upload(data: bytes, limits: Limits) -> Image.Image:
    """Returns an uploaded image as RGB, upright; see load_image.

    Raises:
        UserError: it has too many pixels, is not an image, or is damaged.
    """
    check_pixels(data, limits.max_pixels, "this page")
    return load_image(data, upright=True, name="the image")


def look_at(data: bytes) -> tuple[bool, str | None]:
    """Returns whether browsers can show an image that open_upload has read, and a note on it.

    The note is for the visitor; None if browser and model see the same.
    """
    with opened(data) as image:
        if image.format not in _SHOWN_BY_BROWSERS:
            return False, f"the model reads {image.format} files; browsers do not show them"
        moves = False
        with suppress(Exception):  # a decoder may raise anything on a damaged frame
            moves = getattr(image, "is_animated", False)  # a second frame; others are not read
    return True, "the model sees the first frame of the animation" if moves else None


@dataclass
class Entered:
    """The fields; a value is None if there is a problem with it.

    Attributes:
        image_file, image: the picture, as a file and as RGB.
        patches: N of it.
        question: text of the question.
        budget: K.
        pruner: what chooses the K tokens; None is the page's own.
        is_shown: whether browsers can show the picture.
        problems: one line each, by "image", "question" and "budget".
        advice: advice on a field, likewise.
    """

    image_file: Path | None = None
    image: Image.Image | None = None
    patches: int | None = None
    question: str | None = None
    budget: int | None = None
    pruner: str | None = None
    is_shown: bool = False
    problems: dict[str, str] = field(default_factory=dict)
    advice: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """A reader of the page's fields.

    Attributes:
        answerer: checks the questions.
        uploads: the folder of uploaded files.
        limits: limits of what a visitor may send.
    """

    answerer: Answerer
    uploads: Path
    limits: Limits

    def read(self, upload: object, question: object, kept: object, pruner: object) -> Entered:
        """Reads all fields, which are unchecked JSON values."""
        entered = self.read_image(upload)
        with _told(entered.problems, "budget"):
            entered.pruner = read_pruner(pruner)
        return self.read_text(question, kept, entered)

    def read_image(self, upload: object) -> Entered:
        """Reads only an upload."""
        entered = Entered()
        with _told(entered.problems, "image"):
            path = read_upload(upload, self.uploads)
            data = read_file(path, self.limits)
            image = open_upload(data, self.limits)
            entered.patches = self.answerer.model.count_tokens(image)  # refuses some proportions
            entered.image, entered.image_file = image, path
            entered.is_shown, entered.advice["image"] = look_at(data)
        return entered

    def read_text(self, question: object, kept: object, entered: Entered | None = None) -> Entered:
        """Reads the budget and the question, whose length counts in parts that the budget decides.

        Args:
            question, kept: unchecked JSON values.
            entered: the record to add them to; None makes one.
        """
        entered, most = entered or Entered(), self.answerer.model.count_tokens()
        patches = entered.patches or most
        with _told(entered.problems, "budget"):
            entered.budget = read_budget(kept, patches, most)
        with _told(entered.problems, "question"):
            text = read_question(question, self.limits)
            for budget in (patches, entered.budget or patches):
                entered.advice["question"] = self.answerer.check_question(
                    text, budget, entered.pruner, entered.image
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
