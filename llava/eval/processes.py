"""Several processes on one question set: who takes what, and how results come together.

accelerate's PartialState reads what torchrun or `accelerate launch` say; alone, a process is number
0 of 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from llava.errors import UserError

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
        """Whether this process speaks for all."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this process speaks for its machine, whose disk the others here share."""
        return self._state.is_local_main_process

    def share(self, items: Sequence[T]) -> list[T]:
        """Every count-th item, for this process."""
        return list(items[self.rank :: self.count])

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank, on every process.

        Raises:
            UserError: a process is gone.
        """
        with others_gone():
            return gather_object([value])

    def wait(self) -> None:
        """Until all processes are here.

        Raises:
            UserError: a process is gone.
        """
        with others_gone():
            self._state.wait_for_everyone()


@contextmanager
def others_gone() -> Iterator[None]:
    """Turns a broken connection into one message for the user."""
    try:
        yield
    except RuntimeError as error:  # what torch.distributed raises when a connection breaks
        raise UserError(
            "another process of this run is gone; what was done is kept, and the same command "
            "goes on from there"
        ) from error
