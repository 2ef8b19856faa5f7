"""What a run says: what was before, its progress, what is kept when it stops, its result.

tqdm draws the bar of a terminal; in a file its returns to the start of a line would be unreadable.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from tqdm import tqdm

from llava.eval.engine import Clock
from llava.eval.journal import Journal
from llava.utils.cli import SOME_FAILED
from llava.utils.distributed import Processes

if TYPE_CHECKING:
    from llava.eval.run import Run

INTERVAL = 30.0  # seconds from one line to the next


class PlainLines:
    """A progress bar's substitute for a file or a pipe: plain lines.

    Args:
        name: name of the questions.
        total: number of questions.
        before: how many of them are answered already.
    """

    def __init__(self, name: str, total: int, before: int) -> None:
        self._name, self._total, self._before = name, total, before
        self._count = before
        self._start = self._said = time.monotonic()

    def update(self) -> None:
        """Counts one more question; prints a line if the last one is long ago."""
        self._count += 1
        now = time.monotonic()
        if now - self._said < INTERVAL:
            return
        self._said = now
        each = (now - self._start) / (self._count - self._before)
        left = tqdm.format_interval(each * (self._total - self._count))
        print(
            f"{self._name}: {self._count} of {self._total} questions done, about {left} to go",
            file=sys.stderr,
            flush=True,
        )


def show_progress(name: str, total: int, before: int, is_shown: bool) -> AbstractContextManager:
    """Returns a context whose ``update()`` is called after each question.

    Args:
        name: name of the questions.
        total: number of questions.
        before: how many of them are answered already; the bar starts there.
        is_shown: whether progress is shown.
    """
    if is_shown and not sys.stderr.isatty():
        return nullcontext(PlainLines(name, total, before))
    return tqdm(
        desc=name, total=total, initial=before, unit="question", smoothing=0, disable=not is_shown
    )


def say_what_was_before(run: Run, done: set[str], damage: Sequence[str]) -> None:
    """Prints that a run continues, and what it found damaged."""
    if damage:
        more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
        print(
            f"warning: {damage[0]}{more}: what no other line answers is asked again",
            file=sys.stderr,
        )
    if done:
        print(
            f"{run.answers_file}: {len(done)} of {len(run.questions)} questions answered before; "
            "going on",
            file=sys.stderr,
        )


def how_far(run: Run, processes: Processes, journal: Journal) -> str | None:
    """Returns how much of a stopped run is kept; None if another process says it."""
    if not processes.is_first:
        return None
    answered = len(answered_keys(journal.outcomes()))
    return f"{answered} of {len(run.questions)} questions of {run.answers_file} are answered"


def report_run(run: Run, outcomes: dict[str, dict], clock: Clock) -> int:
    """Prints the result of the run; returns the exit status."""
    answered = answered_keys(outcomes)
    failed = [question for question in run.questions if question.key not in answered]
    print(
        f"{len(run.questions) - len(failed)} of {len(run.questions)} questions answered: "
        f"{run.answers_file}"
    )
    if clock.model:
        print(
            f"{clock.wall:.1f} s after loading: {clock.model:.1f} s in the model, "
            f"{clock.wall - clock.model:.1f} s of engine overhead (reading images, writing "
            f"answers); peak memory {peak_memory():.2f} GiB"
        )
    if failed:
        print(f"{len(failed)} questions failed; the same command tries them again", file=sys.stderr)
    return SOME_FAILED if failed else 0


def answered_keys(outcomes: dict[str, dict]) -> set[str]:
    """Returns the keys of the questions that have an answer."""
    return {key for key, outcome in outcomes.items() if "record" in outcome}


def peak_memory() -> float:
    """Returns the peak memory of this process so far, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**3
