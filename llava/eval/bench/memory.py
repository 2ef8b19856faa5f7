"""The peak memory of a piece of work; psutil has no peak on Linux."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from llava.model.products.layers import Formed

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5)


class PeakMemory:
    """A context that measures peak memory: bytes in use at the peak, less those in use before.

    On a GPU torch counts them. On a CPU Linux does: they are the process's resident memory.

    Attributes:
        bytes: the peak; None before the end, and on other systems.

    Args:
        device: the device of the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: int | None = None
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        elif _STATUS.is_file():
            _trim()
            self._before = _status("VmRSS") if _reset_peak() else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        on_gpu = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) if on_gpu else _status("VmHWM")
        self.bytes = max(0, peak - self._before)


def parameter_bytes(parts: Iterable[nn.Module]) -> int:
    """Returns the memory of the modules' parameters and buffers; shared memory counts once."""
    tensors, packed = _weights(parts)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values()) + packed


def bytes_of_all(part: nn.Module) -> int:
    """Returns the size of a module's parameters and buffers, also where they share memory."""
    tensors, packed = _weights([part])
    return sum(t.nbytes for t in tensors) + packed


def _weights(parts: Iterable[nn.Module]) -> tuple[list[Tensor], int]:
    """Returns the modules' parameters and buffers, each once, and the bytes of packed weights."""
    modules = {module for part in parts for module in part.modules()}
    packed = [m.packed.nbytes for m in modules if isinstance(m, Formed) and m.packed is not None]
    tensors = [t for m in modules for t in (*m.parameters(False), *m.buffers(False))]
    return list({id(t): t for t in tensors}.values()), sum(packed)


def _trim() -> None:
    """Returns freed memory to the system: kept, it would hide what the work takes."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _reset_peak() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    """Returns a line of the process's status, in bytes."""
    return 1024 * int(re.findall(rf"{name}:\s+(\d+) kB", _STATUS.read_text())[0])
