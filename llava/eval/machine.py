"""The name of the machine in reports and measurements."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine_name(device: str) -> str:
    """Returns the name of the GPU, or of the processor with its number of cores.

    Args:
        device: type of the run's device, "cpu" or "cuda".
    """
    if device == "cuda":
        import torch  # imported here: it takes seconds, and a report does not need it

        return torch.cuda.get_device_name()
    return f"{processor_name()}, {os.cpu_count()} cores"


def processor_name() -> str:
    """Returns the processor's name from Linux, or else from Python."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
