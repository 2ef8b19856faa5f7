"""Lines of a journal: the outcome of a question, with a checksum that reveals damage.

    {"key": ..., "record": {...}, "trace": {...}, "asked": {...}, "checksum": ...}  an answer
    {"key": ..., "error": "...", "checksum": ...}                                   why it lacks

The checksum is that of the values: a line with a changed value counts as damaged. Lines of older
versions have no checksum; they are read as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from llava.files import dump_json
from llava.utils.jsonl import read_lines

_CHECKSUM = "checksum"
_FIELDS = {"key", "record", "trace", "asked", "error"}


def seal(outcome: Mapping[str, object]) -> str:
    """Returns an outcome as a line, with its checksum.

    Raises:
        ValueError: it has a number that is not finite, or a text that is not Unicode.
    """
    return dump_json({**outcome, _CHECKSUM: _checksum(outcome)})


def read_outcomes(path: Path) -> Iterator[dict | str]:
    """Yields the outcomes of a file in order; for a damaged line, what is wrong.

    Raises:
        UserError: the file cannot be read.
    """
    for number, value in read_lines(path):
        if isinstance(value, str):
            yield value
            continue
        checksum = value.pop(_CHECKSUM, None)
        reason = _damage(value, checksum)
        yield value if reason is None else f"line {number} of {path} is damaged ({reason})"


def answer_text(outcome: Mapping[str, object]) -> str | None:
    """Returns the text of an outcome's answer; None if it has none."""
    record = outcome.get("record")
    if not isinstance(record, dict):
        return None
    text = record.get("text", record.get("answer"))  # MMVP's files have the latter
    return text if isinstance(text, str) else None


def merge_outcomes(outcomes: Iterable[dict]) -> dict[str, dict]:
    """Returns the outcome of each question: its last answer, or else its last error."""
    merged: dict[str, dict] = {}
    for outcome in outcomes:
        if "record" in outcome or "record" not in merged.get(outcome["key"], {}):
            merged[outcome["key"]] = outcome
    return merged


def _checksum(outcome: Mapping[str, object]) -> str:
    return hashlib.sha256(dump_json(outcome).encode()).hexdigest()[:16]


def _damage(value: dict, checksum: object) -> str | None:
    """Returns why a line is not an outcome; None if it is one."""
    if checksum is not None and checksum != _checksum(value):
        return "its checksum is another"
    if not set(value) <= _FIELDS:
        return "it has a field that no run writes"
    if not isinstance(value.get("key"), str):
        return "it names no question"
    if not isinstance(value.get("asked", {}), dict):
        return "it does not say how it was asked"
    if answer_text(value) is None and (
        "record" in value or not isinstance(value.get("error"), str)
    ):
        return "it holds neither an answer nor an error"
    return None
