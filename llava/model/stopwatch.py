"""Times the stages of an answer, on a CPU and on a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Sums up the seconds of named stages; the time of a stage inside another is its own alone.

    On a GPU, events are recorded among the kernels and read at the end: no stage waits for them.

    Args:
        device: the device that does the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spans: list[tuple[str, Any, Any, int]] = []  # of a stage: its name, start, end, sign
        self._open: list[str] = []
        self._begun: dict[str, float] = {}  # the stages in order of their first start
        self._last: Any = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of what runs inside to a stage."""
        start, around = self._mark(), self._open[-1:]
        self._begun.setdefault(name, 0.0)
        self._open.append(name)
        try:
            yield
        finally:
            self._open.pop()
        end = self._mark()
        self._spans.append((name, start, end, 1))
        self._spans.extend((outer, start, end, -1) for outer in around)

    def start(self) -> None:
        """Starts the first lap."""
        self._last = self._mark()

    def lap(self, name: str) -> None:
        """Adds the time since the start, or the last lap, to a stage."""
        before, self._last = self._last, self._mark()
        self._begun.setdefault(name, 0.0)
        self._spans.append((name, before, self._last, 1))

    def seconds(self) -> dict[str, float]:
        """Returns the time of each stage, in order of their first start; waits for a GPU."""
        totals = dict(self._begun)
        for name, start, end, sign in self._spans:
            totals[name] += sign * self._between(start, end)
        return totals

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, start: Any, end: Any) -> float:
        if self._device.type != "cuda":
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000
