"""The one exception that means "the user can mend this", and how its message shows foreign values."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 160  # characters of a value
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _LONGEST


class UserError(Exception):
    """A mistake in what the user gave: the message says what, where and the way out.

    Commands print the message and exit with status 2; they never show a traceback for it.
    """


class TooLong(UserError):
    """A question has more tokens than a part of the model has room for.

    Attributes:
        part: its name.
        question: as the part reads it.
        share: of its tokens that have no room.
    """

    def __init__(self, message: str, part: str = "", question: str = "", share: float = 1) -> None:
        super().__init__(message)  # alone: pickle makes an exception anew of what this gets
        self.part = part
        self.question = question
        self.share = share


def quoted(value: object) -> str:
    """Returns the repr of a value that somebody else wrote, in one line and without the middle of
    what is long."""
    return " ".join(_REPR.repr(value).splitlines())


def shown(text: str) -> str:
    """Returns a text as it is where it fits on a line, else as quoted does."""
    return text if text.isprintable() and 0 < len(text) <= _LONGEST else quoted(text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns " (did you mean X?)" with the nearest of what is known, or "" where none is near."""
    nearest = get_close_matches(word[:_LONGEST].lower(), known, n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
