"""Date, machine and speed of a run: FILE.run/sessions-R.log, JSON lines.

They are for reports. No answer, score or setting depends on them, and no run reads them: all other
files stay the same from run to run, whatever the machine and its speed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from llava.errors import UserError
from llava.eval.journal import disk_errors, run_folder
from llava.files import dump_json
from llava.utils.jsonl import read_lines

if TYPE_CHECKING:  # a report imports no model
    from llava.eval.engine import Clock


@dataclass(frozen=True)
class Session:
    """The work of one process on a run, until it was done or stopped.

    Attributes:
        date: the day it ended, in UTC, as 2026-11-26.
        machine: name of the machine.
        questions: the number of answered questions.
        seconds: the time for them, loading excluded.
    """

    date: str
    machine: str
    questions: int
    seconds: float


@contextmanager
def noting_session(answers_file: Path, rank: int, device: str, clock: Clock) -> Iterator[None]:
    """Records the session of a process when it is done or stopped, if it answered anything.

    Args:
        answers_file: answers file of the run.
        rank: rank of the process.
        device: type of its device.
        clock: counts its questions and its time.

    Raises:
        UserError: the disk is full or gone.
    """
    try:
        yield
    finally:
        if clock.questions:
            day = datetime.now(timezone.utc).date().isoformat()
            session = Session(day, machine_name(device), clock.questions, clock.wall)
            folder = run_folder(answers_file)
            line = (dump_json(asdict(session)) + "\n").encode()
            with disk_errors(folder), (folder / f"sessions-{rank}.log").open("ab") as file:
                file.write(line)


def read_sessions(answers_file: Path) -> list[Session]:
    """Returns the sessions of a run; missing or unexpected parts are left out."""
    try:
        paths = sorted(run_folder(answers_file).glob("sessions-*.log"))
        lines = [value for path in paths for _, value in read_lines(path)]
    except (OSError, ValueError, UserError):  # ValueError: an impossible file name
        return []
    names = {field.name for field in fields(Session)}
    found = [Session(**line) for line in lines if isinstance(line, dict) and set(line) == names]
    return [session for session in found if _is_sound(session)]


def _is_sound(session: Session) -> bool:
    return (
        isinstance(session.date, str)
        and isinstance(session.machine, str)
        and type(session.questions) is int
        and type(session.seconds) in (int, float)
        and 0 < session.questions < 10**9
        and 0 <= session.seconds < 1e12
    )


def machine_name(device: str) -> str:
    """Returns the name of the GPU, or of the processor with its number of cores.

    Args:
        device: type of the run's device, "cpu" or "cuda".
    """
    if device == "cuda":
        import torch  # imported here: it takes seconds, and a report does not need it

        return torch.cuda.get_device_name()
    return f"{processor_name()}, {os.cpu_count()} cores"


def processor_name() -> str:
    """Returns the processor's name from Linux, or else from Python."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
