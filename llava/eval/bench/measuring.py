"""Cases run side by side: each once for operations and memory, then all in timed rounds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from llava.eval.bench.memory import PeakMemory, parameter_bytes
from llava.eval.bench.methods import Bench, Case
from llava.eval.bench.speed import synchronise
from llava.model.sample import Answer
from llava.model.stopwatch import Stopwatch

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


def inspect(bench: Bench, case: Case, device: torch.device, counts: bool) -> Measured:
    """Runs a case once for its operations and its memory, which also warms it up.

    Args:
        bench: runs the case.
        case: the case.
        device: the device.
        counts: whether to count operations, which graphs make impossible.
    """
    bench.prepare(case)
    bench.forget()
    pixels = bench.pixels(case, 0)
    counter = operation_counter()
    watch = OperationWatch(device, counter) if counts else Stopwatch(device)
    with PeakMemory(device) as peak, counting(counter) if counts else nullcontext():
        answers = bench.run(case, pixels, watch)
    return Measured(
        case,
        answers,
        watch.seconds() if counts else {},
        parameter_bytes(bench.parts(case.method)),
        peak.bytes,
    )


def operation_counter() -> FlopCounterMode:
    """Returns torch's counter of operations, which knows packed products too."""
    return FlopCounterMode(display=False, custom_mapping=_PACKED_PRODUCTS)


@contextmanager
def counting(counter: FlopCounterMode) -> Iterator[None]:
    """Makes all operations visible to a counter: torch's attention fast path would hide some."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with counter:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def measure(
    bench: Bench, found: Sequence[Measured], rounds: int, warm_up: int, device: torch.device
) -> None:
    """Times all cases in turn, round after round.

    Every other round runs backwards, so that a machine that slows down affects all cases alike.

    Args:
        bench: runs the cases.
        found: receives the times.
        rounds: number of timed rounds.
        warm_up: number of rounds before them without timing.
        device: the device.
    """
    with tqdm(total=(warm_up + rounds) * len(found), desc="rounds", unit="run") as progress:
        for number in range(warm_up + rounds):
            for one in found if number % 2 else reversed(found):
                progress.set_postfix_str(str(one.case))
                bench.prepare(one.case)
                watch, pixels = Stopwatch(device), bench.pixels(one.case, 1 + number)
                synchronise(device)
                start = time.perf_counter()
                bench.run(one.case, pixels, watch)
                synchronise(device)
                total = time.perf_counter() - start
                if number >= warm_up:
                    one.totals.append(total)
                    for stage, seconds in watch.seconds().items():
                        one.stages.setdefault(stage, []).append(seconds)
                progress.update()
