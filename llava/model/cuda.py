"""Work on a GPU beside the CPU: an asynchronous stop flag, and a second stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class AsyncStopFlag:
    """Whether a loop whose work runs on a device may stop.

    On a GPU the CPU runs ahead. If it asked after every step, the GPU would idle while the next
    step is prepared; so the answer is about the step before the last, and the loop makes one step
    too many, which must do no harm.

    Args:
        device: where the flags are.
        lag: number of steps that the answer is behind; None takes 1 on a GPU, 0 elsewhere.
    """

    def __init__(self, device: torch.device, lag: int | None = None) -> None:
        self._cuda = device.type == "cuda"
        self._lag = int(self._cuda) if lag is None else lag
        self._flags: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def push(self, flag: Tensor) -> None:
        """Records the flag () bool of a step."""
        if not self._cuda:
            self._flags.append((flag, None))
            return
        copy = torch.empty((), dtype=torch.bool, pin_memory=True)
        copy.copy_(flag, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(flag.device))
        self._flags.append((copy, arrived))

    def is_set(self) -> bool:
        """Returns whether the flag was set, as far as is known."""
        if len(self._flags) <= self._lag:
            return False
        flag, arrived = self._flags.popleft()
        if arrived is not None:
            arrived.synchronize()
        return bool(flag)


class SideStream:
    """A second stream of a GPU; on a CPU, everything runs in turn."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    @contextmanager
    def beside(self, *inputs: Tensor) -> Iterator[None]:
        """Runs what is started inside beside the main stream's later work.

        Args:
            inputs: tensors of the main stream that it reads, on one device; their memory is not
                reused before that.
        """
        device = inputs[0].device
        if device.type != "cuda":
            yield
            return
        if self._stream is None or self._stream.device != device:
            self._stream = torch.cuda.Stream(device)
        for tensor in inputs:
            tensor.record_stream(self._stream)
        # Memory that this stream freed may still be read by the main one, so it waits for that too.
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Makes the main stream wait for what was started beside it."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
