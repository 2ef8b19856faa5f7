"""The one rule for ids, for names of files and columns, and for equality of texts.

People edit benchmark files and save them with pandas or a spreadsheet, which turns 241 into 241.0
and an empty cell into "nan", and unpack them from archives of other character sets.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

# None of these can be in a line of text or in a file's name; the last are halves of surrogate
# pairs, which Python makes of a name that is not UTF-8.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOTHING = frozenset({"", "nan", "<na>", "none", "null"})
_WHOLE_NUMBER = re.compile(r"([0-9]{1,18})(?:\.0*)?")
_LONGEST_PART = 255  # bytes of a name between two slashes, on every usual file system


def is_name(value: object) -> bool:
    """Returns whether a value can be an id or the name of a file: Unicode, one line, not empty.

    A text that is too long for a file's name is not an id either.
    """
    if not isinstance(value, str) or _UNUSABLE.search(value):
        return False
    longest = max(len(part.encode()) for part in value.split("/"))
    return longest <= _LONGEST_PART and value.strip().casefold() not in _NOTHING


def as_id(value: object) -> int | str | None:
    """Returns a JSON value as the id that it stands for; None if it cannot be one.

    An id is a name or a whole number of 64 bits; pandas writes 241.0 for 241.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 2**63 else None
    return value if isinstance(value, str) and is_name(value) else None


def as_number(cell: str) -> int | None:
    """Returns the whole number in a table's cell, "241" or "241.0"; None if there is none."""
    found = _WHOLE_NUMBER.fullmatch(cell.strip())
    return int(found[1]) if found else None


def words(text: str) -> str:
    """Returns a text without what editions change: case, punctuation, blanks, letter widths."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def say_the_same(text: str, other: str) -> bool:
    """Returns whether two texts are equal but for what editions change."""
    return text == other or words(text) == words(other) != ""


def visible(paths: Iterable[Path]) -> list[Path]:
    """Returns the data files, sorted: macOS puts "._NAME" beside NAME on other disks."""
    return sorted(path for path in paths if not path.name.startswith("."))
