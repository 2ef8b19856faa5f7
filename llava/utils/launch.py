"""How this process was started: alone, or by a launcher as one of several."""

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

# At the end, processes wait for each other while one may have hours of work left; at the start, all
# arrive within minutes, or one never does.
PATIENCE = timedelta(days=30)
RENDEZVOUS = timedelta(minutes=3)

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_PLACE = ("MASTER_ADDR", "MASTER_PORT")
_ALL = (*_NUMBERS, *_PLACE)
# mpirun's variables for the number of processes: Open MPI, MPICH and Intel, MVAPICH.
_OTHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_WAY_OUT = "to start several processes, use python -m torch.distributed.run (docs/scaling.md)"


@dataclass(frozen=True)
class Launch:
    """The settings that a launcher gives to one of several processes.

    Attributes:
        rank: rank of the process, from 0.
        count: number of processes, at least 2.
        local_rank: rank of the process on its machine.
        address: host of the rendezvous.
        port: port of the rendezvous.
        is_host: whether this process listens there.
    """

    rank: int
    count: int
    local_rank: int
    address: str
    port: int
    is_host: bool


def read_launch(environment: Mapping[str, str]) -> Launch | None:
    """Returns the settings of torchrun or `accelerate launch`; None if this process is alone.

    Slurm's variables are ignored: a single command of a job has them too. mpirun's variables are
    refused, since these processes cannot meet by them.

    Raises:
        UserError: the variables mean several processes, but are not a launcher's or contradict each
            other; the message names them.
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
    rank, count, local_rank = (numbers[name] for name in _NUMBERS)
    if not max(rank, local_rank) < count:
        _refuse(found, "a process has a number below WORLD_SIZE")
    port = _number(found["MASTER_PORT"], "MASTER_PORT")
    if not 0 < port < 2**16:
        _refuse(found, "a port is a number from 1 to 65535")
    # torchrun itself listens for its processes, and sets a variable for that.
    is_host = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return Launch(rank, count, local_rank, found["MASTER_ADDR"], port, is_host)


def meet(launch: Launch, backend: str) -> None:
    """Joins torch's process group with the other processes of a launch, until exit.

    Raises:
        UserError: not all arrived within RENDEZVOUS; the message says where it waited for whom.
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
    store.set_timeout(PATIENCE)  # NCCL uses the store again at its first collective
    distributed.init_process_group(
        backend, store=store, rank=launch.rank, world_size=launch.count, timeout=PATIENCE
    )
    # Threads of a group that still exists while Python ends can crash the process.
    atexit.register(_leave)


def _open_store(launch: Launch) -> distributed.TCPStore:
    """Returns the store of the rendezvous.

    The host does not use its own name: the one in the environment may be wrong.
    """
    return distributed.TCPStore(
        "127.0.0.1" if launch.is_host else launch.address,
        launch.port,
        is_master=launch.is_host,
        timeout=RENDEZVOUS,
        wait_for_workers=False,
    )


def _knock(launch: Launch, deadline: float) -> None:
    """Waits until the host answers.

    A child process asks: torch prints pages about a missing host, and waits without end for a
    server of another kind.

    Raises:
        OSError: the host did not answer before the deadline.
    """
    child = get_context("fork").Process(target=_open_quietly, args=(launch,), daemon=True)
    child.start()
    try:
        child.join(max(1.0, deadline - time.monotonic()))
    finally:  # who stops this process need not wait for the child
        child.kill()
    if child.exitcode != 0:
        raise OSError("nobody answers there")


def _open_quietly(launch: Launch) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # the parent's handlers are not for the child
    signal.set_wakeup_fd(-1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _open_store(launch)


def _missing(store: distributed.TCPStore | None, names: Sequence[str]) -> list[int]:
    """Returns the ranks of the processes that did not arrive, as far as known."""
    try:
        return [n for n, name in enumerate(names) if store is not None and not store.check([name])]
    except RuntimeError:  # the host is gone again
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
