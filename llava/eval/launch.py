"""How this process was started: alone, or by a launcher as one of several, which then meet."""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context

from torch import distributed

from llava.errors import UserError

# Processes wait for each other at the end, when one may have hours of work left; in the beginning
# all are there within minutes, or one of them never comes.
PATIENCE = timedelta(days=30)
RENDEZVOUS = timedelta(minutes=3)

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_PLACE = ("MASTER_ADDR", "MASTER_PORT")
_ALL = (*_NUMBERS, *_PLACE)
# How many processes mpirun says there are, by its makers: Open MPI, MPICH and Intel, MVAPICH.
_OTHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_WAY_OUT = "to start several processes, use python -m torch.distributed.run (docs/scaling.md)"


@dataclass(frozen=True)
class Launch:
    """What a launcher tells one of several processes.

    Attributes:
        rank: number of the process, from 0.
        count: how many processes there are, at least 2.
        local_rank: number of the process on its machine.
        address: host where they meet.
        port: where they meet.
        is_host: whether this process is the one that listens there.
    """

    rank: int
    count: int
    local_rank: int
    address: str
    port: int
    is_host: bool


def read_launch(environment: Mapping[str, str]) -> Launch | None:
    """Returns what torchrun or `accelerate launch` told this process; None where it is alone.

    What Slurm says is not looked at: it says the same to a single command of a job. mpirun's
    variables are refused, since these processes do not meet by them.

    Raises:
        UserError: the variables speak of several processes, and are not those of a launcher, or
            contradict each other; names them.
    """
    found = {name: environment[name] for name in _ALL if environment.get(name)}
    numbers = {name: _number(found[name], name) for name in _NUMBERS if name in found}
    rank, count, local_rank = (numbers.get(name) for name in _NUMBERS)
    if not rank and not local_rank and count in (None, 1):
        _refuse_others(environment)
        return None
    missing = [name for name in _ALL if name not in found]
    if missing:
        _refuse(found, f"a launcher sets {', '.join(missing)} too")
    if not max(rank, local_rank) < count:
        _refuse(found, "a process has a number below WORLD_SIZE")
    port = _number(found["MASTER_PORT"], "MASTER_PORT")
    if not 0 < port < 2**16:
        _refuse(found, "a port is a number from 1 to 65535")
    # torchrun itself listens for its processes, and says so.
    is_host = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return Launch(rank, count, local_rank, found["MASTER_ADDR"], port, is_host)


def meet(launch: Launch, backend: str) -> None:
    """Joins the processes of a launch into torch's process group, which is left at exit.

    Raises:
        UserError: after RENDEZVOUS not all of them were there; says where it waited for whom.
    """
    names = [f"here/{rank}" for rank in range(launch.count)]
    deadline = time.monotonic() + RENDEZVOUS.total_seconds()
    store = None
    try:
        if not launch.is_host:
            _knock(launch, deadline)
        store = _open_store(launch)
        store.set(names[launch.rank], "yes")
        store.wait(names, timedelta(seconds=max(1.0, deadline - time.monotonic())))
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(_nobody_came(launch, _missing(store, names), reason)) from error
    store.set_timeout(PATIENCE)  # NCCL meets there again at its first collective
    distributed.init_process_group(
        backend, store=store, rank=launch.rank, world_size=launch.count, timeout=PATIENCE
    )
    # Threads of a group that is still there while Python ends can take the process down with them.
    atexit.register(_leave)


def _open_store(launch: Launch) -> distributed.TCPStore:
    """Returns what the processes tell each other by that they are there. Its host needs no name for
    itself, which in the environment may be wrong."""
    return distributed.TCPStore(
        "127.0.0.1" if launch.is_host else launch.address,
        launch.port,
        is_master=launch.is_host,
        timeout=RENDEZVOUS,
        wait_for_workers=False,
    )


def _knock(launch: Launch, deadline: float) -> None:
    """Waits until the host answers. A child asks: of a host that is not there torch writes pages,
    and for a server of another kind it waits without end.

    Raises:
        OSError: it did not answer until the deadline.
    """
    child = get_context("fork").Process(target=_open_quietly, args=(launch,), daemon=True)
    child.start()
    try:
        child.join(max(1.0, deadline - time.monotonic()))
    finally:  # whoever stops this process does not wait for the child
        child.kill()
    if child.exitcode != 0:
        raise OSError("nobody answers there")


def _open_quietly(launch: Launch) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # those of the parent are not the child's to tell
    signal.set_wakeup_fd(-1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _open_store(launch)


def _missing(store: distributed.TCPStore | None, names: Sequence[str]) -> list[int]:
    """Numbers of the processes that did not come, as far as is known."""
    try:
        return [n for n, name in enumerate(names) if store is not None and not store.check([name])]
    except RuntimeError:  # the host has gone again
        return []


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _nobody_came(launch: Launch, missing: list[int], reason: str) -> str:
    who = f"number {', '.join(map(str, missing))}" if missing else "the others"
    return (
        f"process {launch.rank} of {launch.count} waited for {who} at {launch.address}:"
        f"{launch.port}, as RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say, and gave up "
        f"({reason}): start all {launch.count} within {RENDEZVOUS.total_seconds() / 60:g} minutes "
        f"by python -m torch.distributed.run, or, to run alone, unset {' '.join(_ALL)}"
    )


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        _refuse({name: text}, "it is no number from 0")
    return int(text)


def _refuse_others(environment: Mapping[str, str]) -> None:
    sizes = {name: environment[name] for name in _OTHER_SIZES if environment.get(name)}
    several = {name: text for name, text in sizes.items() if text.strip() != "1"}
    if several:
        _refuse(several, "mpirun is no launcher of these processes")


def _refuse(found: Mapping[str, str], why: str) -> None:
    raise UserError(
        f"the environment says {' '.join(f'{name}={text}' for name, text in found.items())}, and "
        f"{why}: to run alone, unset {' '.join(found)}; {_WAY_OUT}"
    )
