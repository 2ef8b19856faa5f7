"""Several processes on one question set: each takes a share, and the results are gathered.

torchrun or `accelerate launch` start them; a single process has rank 0 of 1. accelerate gathers
results too, but says neither which process is missing (see launch.py) nor that one is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed

from llava.errors import UserError
from llava.utils.launch import meet, read_launch

T = TypeVar("T")

# Words of gloo and NCCL when the other end of a connection is gone. They raise plain RuntimeErrors,
# like the rest of torch, so that only the words tell.
_GONE = (
    "onnection closed",
    "onnection reset",
    "onnection refused",
    "roken pipe",
    "imed out",
    "wait timeout",
    "remote process",
    "ncclRemoteError",
    "communicator was aborted",
)


class Processes:
    """The processes of this run.

    Args:
        device: the user's value; "auto" and "cuda" become the process's own GPU.

    Raises:
        UserError: the environment names processes that do not exist, or more than there are GPUs.
    """

    def __init__(self, device: str) -> None:
        launch = read_launch(os.environ)
        self.rank, self.count = (launch.rank, launch.count) if launch else (0, 1)
        self._local_rank = launch.local_rank if launch else 0
        self.device = device
        on_gpu = device != "cpu" and torch.cuda.is_available()
        if launch is None:
            return
        if on_gpu:
            if self._local_rank >= torch.cuda.device_count():
                raise UserError(
                    f"there are {torch.cuda.device_count()} GPUs here, too few for process "
                    f"{self._local_rank} of this machine: start fewer, or with --device cpu"
                )
            torch.cuda.set_device(self._local_rank)
            if device in ("auto", "cuda"):
                self.device = f"cuda:{self._local_rank}"
        if not distributed.is_initialized():
            meet(launch, "nccl" if on_gpu else "gloo")

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes for all."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this process acts for its machine, whose disk its processes share."""
        return self._local_rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Returns every count-th item, the share of this process."""
        return list(items[self.rank :: self.count])

    def gather(self, value: T) -> list[T]:
        """Returns the values of all processes, by rank, on every process.

        Raises:
            UserError: a process is gone.
        """
        values = [value] * self.count
        if self.count > 1:
            with others_gone():
                distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Waits until all processes are here.

        Raises:
            UserError: a process is gone.
        """
        if self.count > 1:
            with others_gone():
                distributed.barrier()


@contextmanager
def others_gone() -> Iterator[None]:
    """Turns a broken connection into one message for the user; other errors stay unchanged."""
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, distributed.DistNetworkError)
        if not broken and not any(words in str(error) for words in _GONE):
            raise
        raise UserError(
            "another process of this run is gone; what was done is kept, and the same command "
            "goes on from there"
        ) from error
