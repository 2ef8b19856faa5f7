"""The progress of a run, on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

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

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def show_progress(name: str, total: int, before: int, is_shown: bool) -> tqdm | PlainLines:
    """Returns a context whose ``update()`` is called after each question.

    Args:
        name: name of the questions.
        total: number of questions.
        before: how many of them are answered already; the bar starts there.
        is_shown: whether progress is shown.
    """
    if is_shown and not sys.stderr.isatty():
        return PlainLines(name, total, before)
    return tqdm(
        desc=name, total=total, initial=before, unit="question", smoothing=0, disable=not is_shown
    )
