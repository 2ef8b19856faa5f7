"""Serves a web page in a process of its own, and measures its memory and files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from llava.errors import UserError

_LOG = "server.log"
USER, PASSWORD = "ada", "rosebud"  # of a page that asks for them


@dataclass(frozen=True)
class Served:
    """A running page.

    Attributes:
        address: of the page.
        process: that serves it.
        folder: where everything lies that it writes.
        log: its standard error.
    """

    address: str
    process: psutil.Process
    folder: Path
    log: Path | None = None

    def memory(self) -> float:
        """Returns the resident memory in MB."""
        return self.process.memory_info().rss / 1e6

    def disk(self) -> float:
        """Returns the size of its files in MB."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) / 1e6


@contextmanager
def served(flags: Sequence[str], parent: Path | None = None) -> Iterator[Served]:
    """Serves the page on a free port, and ends it afterwards.

    Args:
        flags: of ``python -m llava.serve.web``.
        parent: where it makes its temporary files, which then stay there.

    Raises:
        UserError: it does not start.
    """
    command = [sys.executable, "-m", "llava.serve.web", "--port", str(free_port()), *flags]
    with TemporaryDirectory(prefix="accm-load-") as own:
        folder = parent or Path(own)
        log = Path(own) / _LOG
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command,
                env=os.environ | {"TMPDIR": str(folder)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            try:
                said = process.stdout.readline()
                if " at http" not in said:
                    raise UserError(f"the page did not start: {log.read_text()[-500:]}")
                address = said.split(" at ")[1].split()[0]
                yield Served(address, psutil.Process(process.pid), folder, log)
            finally:
                process.terminate()


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
