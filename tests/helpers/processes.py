"""Processes for tests, forked from one that has imported once what takes seconds to import."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

_PATIENCE = 300  # seconds for processes that run together
FROM_WARM = multiprocessing.get_context("forkserver")
FROM_WARM.set_forkserver_preload(
    ["llava.model.builder", "open_clip", "llava.eval.sweep", "tests.helpers.toy_stage"]
    + ["torch.distributed", "torch.utils.tensorboard", "matplotlib.figure"]
)


def start(
    module: str,
    words: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    file_limit: int | None = None,
) -> BaseProcess:
    """Starts ``python -m MODULE WORDS`` and returns its process; ``exitcode`` is its status.

    Args:
        module: has a function main that takes the words and returns a status.
        words: the command line.
        log: file for standard output and error.
        environment: variables beside those of this process.
        file_limit: bytes that a file may have, as on a disk that is full.
    """
    settings = os.environ | dict(environment or {})
    threads = torch.get_num_threads()
    arguments = (module, list(words), str(log), settings, file_limit, threads)
    process = FROM_WARM.Process(target=_run, args=arguments)
    process.start()
    return process


def run_together(
    count: int, module: str, words: Sequence[str], log: Path, machines: int = 1
) -> list[int | None]:
    """Runs a command in processes that find each other as torchrun's do; returns their statuses.

    Args:
        count: number of processes, each with one thread.
        module: as start takes it.
        words: as start takes them.
        log: file for the output of the first one; the others' have their ranks behind the name.
        machines: on how many machines they seem to run, each with as many of them.
    """
    local = count // machines
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    meet |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(local), "OMP_NUM_THREADS": "1"}
    logs = [log, *(log.with_name(f"{log.name}.{rank}") for rank in range(1, count))]
    processes = [
        start(module, words, path, meet | {"RANK": str(rank), "LOCAL_RANK": str(rank % local)})
        for rank, path in enumerate(logs)
    ]
    for process in processes:
        process.join(_PATIENCE)
        process.kill()  # does nothing to one that has ended
        process.join()
    return [process.exitcode for process in processes]


def _run(
    module: str,
    words: list[str],
    log: str,
    environment: dict[str, str],
    file_limit: int | None,
    threads: int,
) -> None:
    """Does what the process is for."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", threads)))
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    sys.argv = [module, *words]
    status = importlib.import_module(module).main(words)
    if torch.distributed.is_initialized():  # what is registered for the exit is not run here
        torch.distributed.destroy_process_group()
    sys.exit(status)
