"""The one exception for mistakes that the user can correct, and the values in its message."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 160  # characters of a value
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _LONGEST


class UserError(Exception):
    """A mistake in the user's input: the message says what, where and the way out.

    Commands print the message and exit with status 2; they never show a traceback for it.
    """


class TooLong(UserError):
    """A question with more tokens than a part of the model can read.

    Attributes:
        part: name of the part.
        question: as the part reads it.
        share: share of its tokens beyond the limit.
    """

    def __init__(self, message: str, part: str = "", question: str = "", share: float = 1) -> None:
        super().__init__(message)  # only this: pickle passes an exception's args back
        self.part = part
        self.question = question
        self.share = share


def quoted(value: object) -> str:
    """Returns the repr of a foreign value in one line; a long one is shortened in the middle."""
    return " ".join(_REPR.repr(value).splitlines())


def shown(text: str) -> str:
    """Returns a text unchanged if it fits on a line, else as quoted does."""
    return text if text.isprintable() and 0 < len(text) <= _LONGEST else quoted(text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns " (did you mean X?)" with the nearest known word, or "" if none is near."""
    nearest = get_close_matches(word[:_LONGEST].lower(), known, n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
