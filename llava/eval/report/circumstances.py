"""Date, machine, versions, settings and speed of a run, as far as its files have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llava.eval.sessions import read_sessions

# Settings that a report has elsewhere, or that are hashes, which tell a reader nothing.
_ELSEWHERE = {
    "benchmark",
    "model_id",
    "method",
    "visual_token_num",
    "num_patches",
    "questions",
    "dtype",
    "device",
}
_LONGEST = 80  # characters of a setting or a version


@dataclass(frozen=True)
class Circumstances:
    """Facts that affect a reader's trust in a score, but not the score; "" or None if unknown.

    Attributes:
        date: date of the answers, or the first and the last of several.
        machine: name of the machine, or of several that shared the run.
        seconds: time of a process per question, loading excluded.
        versions: versions of the libraries.
        settings: settings of the answers.
    """

    date: str = ""
    machine: str = ""
    seconds: float | None = None
    versions: str = ""
    settings: str = ""


def read_circumstances(settings: object, answers_file: Path | None) -> Circumstances:
    """Returns the circumstances of a run.

    Args:
        settings: settings of its result file; anything but an object is ignored.
        answers_file: the file that has its sessions beside it; None if the result file names none.
    """
    sessions = [] if answers_file is None else read_sessions(answers_file)
    known = settings if isinstance(settings, dict) else {}
    questions = sum(session.questions for session in sessions)
    return Circumstances(
        date=span(session.date for session in sessions),
        machine="; ".join(dict.fromkeys(session.machine for session in sessions)),
        seconds=sum(s.seconds for s in sessions) / questions if questions else None,
        versions=_listed(known.get("versions"), set()),
        settings=_listed(known, _ELSEWHERE),
    )


def span(dates: Iterable[str]) -> str:
    """Returns the first and the last of some dates; "" if there are none."""
    days = sorted(dates)
    return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""


def _listed(values: object, left_out: set[str]) -> str:
    """Returns an object's texts and numbers as "name value, name value", without unset ones."""
    if not isinstance(values, Mapping):
        return ""
    shown = {
        name: value
        for name, value in values.items()
        if name not in left_out and isinstance(value, (str, int, float)) and value is not False
    }
    return ", ".join(
        name + ("" if value is True else f" {_short(value)}") for name, value in shown.items()
    )


def _short(value: str | float) -> str:
    text = one_line(str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def one_line(text: str) -> str:
    """Returns a text in one line, without half surrogate pairs, which UTF-8 cannot hold."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
