"""What a run says: what was there before, what is kept when it stops, and its result."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llava.eval.engine import Clock
from llava.eval.journal import Journal
from llava.utils.cli import SOME_FAILED
from llava.utils.distributed import Processes

if TYPE_CHECKING:
    from llava.eval.run import Run


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
