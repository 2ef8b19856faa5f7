"""When, where, with what and how fast a run was answered, as far as its files say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llava.eval.sessions import read_sessions

# What of the settings a report says elsewhere, or in hashes that tell a reader nothing.
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
    """Says what does not decide a score but whether a reader believes it; "" or None if unknown.

    Attributes:
        date: of the answers; of several days the first and the last.
        machine: in words; several where the run was shared.
        seconds: that a process took for a question, loading excluded.
        versions: of the libraries.
        settings: that the answers were made with.
    """

    date: str = ""
    machine: str = ""
    seconds: float | None = None
    versions: str = ""
    settings: str = ""


def read_circumstances(settings: object, answers_file: Path | None) -> Circumstances:
    """Returns what is known of a run.

    Args:
        settings: of its result file; anything but an object says nothing.
        answers_file: beside which its sessions stand; None where the result file names none.
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
    """Returns the first and the last of some dates; "" where there are none."""
    days = sorted(dates)
    return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""


def _listed(values: object, left_out: set[str]) -> str:
    """Returns the texts and numbers of an object as "name value, name value"; what is off or not
    set is left out."""
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
    """Returns a text in one line, without what UTF-8 cannot hold (half a surrogate pair)."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
