"""Work that a GPU does beside its main stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


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
