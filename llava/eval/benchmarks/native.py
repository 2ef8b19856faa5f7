"""What the readers of the benchmarks' own files share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava.errors import UserError


def need(path: Path, layout: str, home: str) -> Path:
    """A file or folder that must be there.

    Raises:
        UserError: it is not; the message says what belongs there and where to get it.
    """
    if not path.exists():
        raise UserError(f"there is no {path}: {layout}; get it from {home}")
    return path


def need_texts(record: object, names: Sequence[str], where: str) -> dict:
    """A JSON object in which these fields are texts.

    Raises:
        UserError: it is no object, or a field is not there or no text; `where` says where.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}: a {type(record).__name__} stands where an object is expected")
    wrong = [name for name in names if not isinstance(record.get(name), str)]
    if wrong:
        raise UserError(f"{where}: no text under {', '.join(wrong)}")
    return record
