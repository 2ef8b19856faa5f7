"""Values that somebody else wrote, as a message of one line shows them."""

from __future__ import annotations

import reprlib

_LONGEST = 160  # characters
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _LONGEST


def shown(text: str) -> str:
    """Returns a text as it is where it fits on a line, else as quoted does."""
    return text if text.isprintable() and 0 < len(text) <= _LONGEST else quoted(text)


def quoted(value: object) -> str:
    """Returns the repr of a value, without the middle of what is long."""
    return _REPR.repr(value)
