"""Cases run side by side: each once for operations and memory, then all in timed rounds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from llava.eval.bench.memory import PeakMemory, parameter_bytes
from llava.eval.bench.methods import Case
from llava.eval.bench.speed import synchronise
from llava.model.sample import Answer
from llava.model.stopwatch import Stopwatch

Item = TypeVar("Item")
Result = TypeVar("Result")
# A row is marked as noisy if the spread of its totals is above this share of their median.
NOISY = 0.1


def _packed_operations(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    """Returns the operations of a packed product, which torch's counter does not know."""
    return 2 * math.prod(x) * weight[0]


# The operation is private: a version of torch may lack it, and packs nothing then.
_PACKED_PRODUCTS = {
    operation: _packed_operations
    for operation in [getattr(torch.ops.mkldnn, "_linear_pointwise", None)]
    if operation is not None
}


class Runner(Protocol):
    """Runs cases on images of noise; Bench is one."""

    def prepare(self, case: Case) -> None:
        """Brings the weights into the form of a case."""

    def pixels(self, case: Case, seed: int) -> Any:
        """Returns the images of a case, as if preprocessed."""

    def run(self, case: Case, pixels: Any, watch: Stopwatch) -> list[Answer]:
        """Runs a case once; returns the answers of this pipeline."""

    def parts(self, method: str) -> list[nn.Module]:
        """Returns the modules that a method keeps in memory."""

    def forget(self) -> None:
        """Clears the caches."""


@dataclass
class Measured:
    """The measurements of a case.

    Attributes:
        case: the case.
        answers: the answers of one run.
        operations: operations counted by torch, by stage; empty if a graph hides them.
        weight_bytes: size of the parameters of all parts.
        peak_bytes: peak memory beyond them; None if it cannot be measured.
        totals: seconds of each round, from start to end, for the whole batch.
        stages: seconds of each round by stage, for the whole batch.
    """

    case: Case
    answers: list[Answer]
    operations: dict[str, float]
    weight_bytes: int
    peak_bytes: int | None
    totals: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The median time per sample."""
        return statistics.median(self.totals) / self.case.batch_size

    @property
    def spread(self) -> float:
        """The interquartile range of the totals, as a share of their median."""
        if len(self.totals) < 2:
            return 0.0
        low, median, high = statistics.quantiles(self.totals, n=4, method="inclusive")
        return (high - low) / median

    @property
    def is_noisy(self) -> bool:
        """Whether the spread is too large to trust the median."""
        return self.spread > NOISY


class OperationWatch(Stopwatch):
    """A stopwatch that sums operations instead of seconds."""

    def __init__(self, device: torch.device, counter: FlopCounterMode) -> None:
        super().__init__(device)
        self._counter = counter

    def _mark(self) -> int:
        return self._counter.get_total_flops()

    def _between(self, start: int, end: int) -> int:
        return end - start


def inspect(
    work: Callable[[Stopwatch], Result], device: torch.device, counts: bool
) -> tuple[Result, dict[str, float], float | None, int | None]:
    """Runs some work once for its operations and its memory, which also warms it up.

    Args:
        work: receives a watch for its stages.
        device: the device.
        counts: whether to count operations, which graphs make impossible.

    Returns:
        What the work gives, its operations by stage, all its operations (none if they are not
        counted), and its peak memory in bytes.
    """
    if not counts:
        with PeakMemory(device) as peak:
            result = work(Stopwatch(device))
        return result, {}, None, peak.bytes
    # torch's counter, which here knows packed products too.
    counter = FlopCounterMode(display=False, custom_mapping=_PACKED_PRODUCTS)
    watch = OperationWatch(device, counter)
    with PeakMemory(device) as peak, _counting(counter):
        result = work(watch)
    return result, watch.seconds(), float(counter.get_total_flops()), peak.bytes


def inspect_case(bench: Runner, case: Case, device: torch.device, counts: bool) -> Measured:
    """Runs a case once for its operations and its memory; see inspect."""
    bench.prepare(case)
    bench.forget()
    pixels = bench.pixels(case, 0)
    answers, operations, _, peak = inspect(partial(bench.run, case, pixels), device, counts)
    return Measured(case, answers, operations, parameter_bytes(bench.parts(case.method)), peak)


def timed(
    work: Callable[[Stopwatch], Result], device: torch.device
) -> tuple[Result, float, dict[str, float]]:
    """Returns what some work gives, its seconds from start to end, and its seconds by stage."""
    watch = Stopwatch(device)
    synchronise(device)
    start = time.perf_counter()
    result = work(watch)
    synchronise(device)
    return result, time.perf_counter() - start, watch.seconds()


def in_turn(found: Sequence[Item], rounds: int) -> Iterator[tuple[int, Item]]:
    """Yields all items round after round, each with the number of the round.

    Every other round runs backwards: a machine that slows down affects all alike.
    """
    for number in range(rounds):
        yield from ((number, one) for one in (found if number % 2 else reversed(found)))


@contextmanager
def _counting(counter: FlopCounterMode) -> Iterator[None]:
    """Makes all operations visible to a counter: torch's attention fast path would hide some."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with counter:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def measure(
    bench: Runner, found: Sequence[Measured], rounds: int, warm_up: int, device: torch.device
) -> None:
    """Times all cases in turn, round after round.

    Args:
        bench: runs the cases.
        found: receives the times.
        rounds: number of timed rounds.
        warm_up: number of rounds before them without timing.
        device: the device.
    """
    with tqdm(total=(warm_up + rounds) * len(found), desc="rounds", unit="run") as progress:
        for number, one in in_turn(found, warm_up + rounds):
            progress.set_postfix_str(str(one.case))
            bench.prepare(one.case)
            pixels = bench.pixels(one.case, 1 + number)
            _, total, stages = timed(partial(bench.run, one.case, pixels), device)
            if number >= warm_up:
                one.totals.append(total)
                for stage, seconds in stages.items():
                    one.stages.setdefault(stage, []).append(seconds)
            progress.update()
