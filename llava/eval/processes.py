"""Several processes on one question set: who takes what, and how results come together.

accelerate's PartialState reads what torchrun or `accelerate launch` say; alone, a process is number
0 of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

T = TypeVar("T")

# Processes wait for each other at the end, when one may have hours of work left.
PATIENCE = timedelta(days=30)


class Processes:
    """The processes of this run.

    Args:
        device: as the user gave it; "auto" and "cuda" become the process's own GPU.
    """

    def __init__(self, device: str) -> None:
        # Without cpu=True, processes on a machine without GPU would each believe to be alone.
        on_cpu = device == "cpu" or not torch.cuda.is_available()
        self._state = PartialState(cpu=on_cpu, timeout=PATIENCE)
        self.rank = self._state.process_index
        self.count = self._state.num_processes
        own = self.count > 1 and not on_cpu and device in ("auto", "cuda")
        self.device = str(self._state.device) if own else device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Every count-th item, for this process."""
        return list(items[self.rank :: self.count])

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank, on every process."""
        return gather_object([value])

    def wait(self) -> None:
        """Until all processes are here."""
        self._state.wait_for_everyone()
