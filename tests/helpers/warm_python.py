"""An interpreter for scripts that start Python themselves, which has imported torch already.

``PYTHON -m MODULE WORDS`` runs the module in a process that is forked from one that has imported
once what takes seconds to import (processes.py). Other calls run Python as ever.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tests.helpers.processes import FROM_WARM

_FORK = multiprocessing.get_context("fork")
# Hands words, folder, environment and standard files on, and ends as the process that gets them.
_PROGRAM = """#!{python} -SE
import json, os, signal, socket, sys
if sys.argv[1:2] != ["-m"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{address}")
    socket.send_fds(server, [b"x"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode() + b"\\0")
    status = int(server.recv(16) or b"1")
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """Yields the interpreter, a program in the folder."""
    program, address = folder / "python", folder / "socket"
    program.write_text(_PROGRAM.format(python=sys.executable, address=address))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        server = FROM_WARM.Process(target=_serve, args=(listener,))
        server.start()
    yield program
    server.terminate()
    server.join()


def _serve(listener: socket.socket) -> None:
    """Starts a process for each call, until it is terminated."""
    while True:
        call, _ = listener.accept()
        _FORK.Process(
            target=_attend, args=(call,)
        ).start()  # which also joins those that have ended
        call.close()


def _attend(call: socket.socket) -> None:
    """Runs a call and returns its status; a call whose program is gone is killed."""
    _, files, _, _ = socket.recv_fds(call, 1, 3)
    text = b""
    while not text.endswith(b"\0"):
        text += call.recv(1 << 16)
    process = _FORK.Process(target=_run, args=(files, *json.loads(text[:-1])))
    process.start()
    for file in files:
        os.close(file)
    ends = select.poll()
    ends.register(call, 0)  # hanging up is always told
    ends.register(process.sentinel, select.POLLIN)
    if (process.sentinel, select.POLLIN) not in ends.poll():
        process.kill()
    process.join()
    call.sendall(str(process.exitcode).encode())


def _run(files: list[int], words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Does what ``python -m`` does."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.executable, _, module, *rest = words
    sys.argv = [module, *rest]
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
