"""What the CPU learns of a GPU's work without holding it up."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor


class LaggingFlag:
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
