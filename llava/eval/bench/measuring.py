"""Cases run side by side: each once to be looked into, then all in rounds against the clock."""

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
from llava.eval.bench.prediction import synchronise
from llava.model.sample import Answer
from llava.model.stopwatch import Stopwatch

# A spread of the whole beyond this share of its median makes a row untrustworthy.
NOISY = 0.1


def _packed_operations(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    """Returns the operations of a packed product, of which torch's counter does not know."""
    return 2 * math.prod(x) * weight[0]


# The operation is private: a torch may lack it, and packs nothing then.
_PACKED_PRODUCTS = {
    operation: _packed_operations
    for operation in [getattr(torch.ops.mkldnn, "_linear_pointwise", None)]
    if operation is not None
}


@dataclass
class Measured:
    """What was found out about a case.

    Attributes:
        case: which.
        answers: of one run.
        operations: counted by torch, by stage; empty where a graph hides them.
        weight_bytes: parameters of all parts.
        peak_bytes: memory taken beyond them; None where nobody counts.
        totals: seconds of each round, from start to end, for the whole batch.
        stages: seconds of each round by stage, for the whole batch.
    """

    case: Case
    answers: list[Answer]
    operations: dict[str, int]
    weight_bytes: int
    peak_bytes: int | None
    totals: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The median per sample."""
        return statistics.median(self.totals) / self.case.batch_size

    @property
    def spread(self) -> float:
        """The middle half of the totals, as a share of their median."""
        if len(self.totals) < 2:
            return 0.0
        low, median, high = statistics.quantiles(self.totals, n=4, method="inclusive")
        return (high - low) / median

    @property
    def is_noisy(self) -> bool:
        """Whether its median says little."""
        return self.spread > NOISY


class _OperationWatch(Stopwatch):
    """Sums up counted operations in the place of seconds."""

    def __init__(self, device: torch.device, counter: FlopCounterMode) -> None:
        super().__init__(device)
        self._counter = counter

    def _mark(self) -> int:
        return self._counter.get_total_flops()

    def _between(self, start: int, end: int) -> int:
        return end - start


def inspect(bench: Bench, case: Case, device: torch.device, counts: bool) -> Measured:
    """Runs a case once (which warms it up, too) for its operations and its memory.

    Args:
        bench: runs it.
        case: which.
        device: where.
        counts: whether operations are to be counted: not where graphs run.
    """
    bench.prepare(case)
    bench.forget()
    pixels = bench.pixels(case, 0)
    counter = FlopCounterMode(display=False, custom_mapping=_PACKED_PRODUCTS)
    watch = _OperationWatch(device, counter) if counts else Stopwatch(device)
    with PeakMemory(device) as peak, _counting(counter) if counts else nullcontext():
        answers = bench.run(case, pixels, watch)
    return Measured(
        case,
        answers,
        watch.seconds() if counts else {},
        parameter_bytes(bench.parts(case.method)),
        peak.bytes,
    )


@contextmanager
def _counting(counter: FlopCounterMode) -> Iterator[None]:
    """Lets a counter see all operations; torch's fast path for attention would hide some."""
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
    """Times all cases in turn, round after round; every other round backwards, so that a machine
    that slows down slows down all alike.

    Args:
        bench: runs them.
        found: what the times are added to.
        rounds: that count.
        warm_up: rounds before them that do not.
        device: where.
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
