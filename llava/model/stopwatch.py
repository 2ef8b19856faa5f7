"""How long the stages of an answer take, on a CPU and on a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Sums up the seconds of named stages.

    On a GPU, marks are put among the kernels and read in the end: the stages themselves wait for
    nothing.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spans: list[tuple[str, object, object]] = []
        self._last: object = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts what is done inside towards a stage."""
        start = self._mark()
        yield
        self._spans.append((name, start, self._mark()))

    def start(self) -> None:
        """Begins the first lap."""
        self._last = self._mark()

    def lap(self, name: str) -> None:
        """Counts what was done since the start, or the last lap, towards a stage."""
        before, self._last = self._last, self._mark()
        self._spans.append((name, before, self._last))

    def seconds(self) -> dict[str, float]:
        """What each stage took, in the order in which they began; waits for a GPU to finish."""
        totals: dict[str, float] = {}
        for name, start, end in self._spans:
            totals[name] = totals.get(name, 0.0) + self._between(start, end)
        return totals

    def _mark(self) -> object:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, start: object, end: object) -> float:
        if self._device.type != "cuda":
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000
