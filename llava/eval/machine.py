"""The machine in words, as reports and measurements name it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine_name(device: str) -> str:
    """Returns the name of the GPU, or of the processor with the number of its cores.

    Args:
        device: kind of device that a run is on, as "cpu" or "cuda".
    """
    if device == "cuda":
        import torch  # here, because it takes seconds and a report needs none of it

        return torch.cuda.get_device_name()
    return f"{processor_name()}, {os.cpu_count()} cores"


def processor_name() -> str:
    """Returns the processor's name as Linux has it, or Python."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
