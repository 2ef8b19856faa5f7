"""A GPU beside the CPU: when a loop may stop, and work on a second stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class AsyncStopFlag:
    """Whether a loop whose work runs on a device may stop.

    On a GPU the CPU runs ahead. Were it to ask after every step, the GPU would stand still while
    the next is prepared; so the answer is about the step before the last, and the loop makes one
    step too many, which must do no harm.

    Args:
        device: where the flags are.
        lag: how many steps the answer is behind; None takes 1 on a GPU, 0 elsewhere.
    """

    def __init__(self, device: torch.device, lag: int | None = None) -> None:
        self._cuda = device.type == "cuda"
        self._lag = int(self._cuda) if lag is None else lag
        self._flags: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def push(self, flag: Tensor) -> None:
        """Tells the flag () bool of a step."""
        if not self._cuda:
            self._flags.append((flag, None))
            return
        copy = torch.empty((), dtype=torch.bool, pin_memory=True)
        copy.copy_(flag, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(flag.device))
        self._flags.append((copy, arrived))

    def is_set(self) -> bool:
        """Whether the flag was set as far as is known."""
        if len(self._flags) <= self._lag:
            return False
        flag, arrived = self._flags.popleft()
        if arrived is not None:
            arrived.synchronize()
        return bool(flag)


class SideStream:
    """A second stream of a GPU; on a CPU, all is done in turn."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    @contextmanager
    def beside(self, *inputs: Tensor) -> Iterator[None]:
        """What is started inside runs beside what the main stream is given afterwards.

        Args:
            inputs: what it reads of the main stream's, on one device; kept from other use until it
                has.
        """
        device = inputs[0].device
        if device.type != "cuda":
            yield
            return
        if self._stream is None or self._stream.device != device:
            self._stream = torch.cuda.Stream(device)
        for tensor in inputs:
            tensor.record_stream(self._stream)
        # Memory that this stream freed may still be read by the main one: it waits for that too.
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Lets the main stream wait for what was started beside it."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
