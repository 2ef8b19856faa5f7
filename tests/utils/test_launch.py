"""What launchers leave in the environment: a run alone, a meeting, or one line; no long wait."""

import itertools
import os
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from llava.errors import UserError
from llava.utils import launch
from llava.utils.distributed import Processes, others_gone
from llava.utils.launch import Launch, meet, read_launch

FULL = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def test_what_a_launcher_says():
    assert read_launch(FULL) == Launch(1, 2, 0, "127.0.0.1", 29500, is_host=False)
    first = FULL | {"RANK": "0"}
    assert read_launch(first).is_host
    assert not read_launch(first | {"TORCHELASTIC_USE_AGENT_STORE": "True"}).is_host


@pytest.mark.parametrize(
    "left",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "elsewhere", "MASTER_PORT": "x"},
        {"WORLD_SIZE": "", "RANK": ""},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NNODES": "2"},
        {"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1", "PMI_RANK": "0"},
    ],
)
def test_alone_where_nothing_speaks_of_others(left):
    assert read_launch(left) is None


@pytest.mark.parametrize(
    "left, says",
    [
        (FULL | {"WORLD_SIZE": "abc"}, "WORLD_SIZE=abc, and it is no number from 0"),
        (FULL | {"RANK": "-1"}, "RANK=-1, and it is no number"),
        (FULL | {"LOCAL_RANK": "1.0"}, "LOCAL_RANK=1.0, and it is no number"),
        (FULL | {"RANK": "2"}, "a process has a number below WORLD_SIZE"),
        (FULL | {"WORLD_SIZE": "0"}, "a process has a number below WORLD_SIZE"),
        (FULL | {"WORLD_SIZE": "1"}, "a process has a number below WORLD_SIZE"),
        (FULL | {"MASTER_PORT": "99999"}, "a port is a number from 1 to 65535"),
        ({"WORLD_SIZE": "2"}, "launcher sets RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT too"),
        ({"LOCAL_RANK": "1"}, "LOCAL_RANK=1, and a launcher sets RANK, WORLD_SIZE"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE=2, and mpirun is no launcher"),
        ({"PMI_SIZE": "x"}, "PMI_SIZE=x, and mpirun is no launcher"),
    ],
)
def test_what_is_left_behind_is_named_with_the_way_out(left, says):
    with pytest.raises(UserError) as caught:
        read_launch(left)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert "to run alone, unset " in str(caught.value)


def test_any_values_are_alone_or_a_launch_or_one_line():
    values = (None, "", "0", "1", "2", "-1", "abc", "²", " ", "9" * 30)
    for rank, count, local in itertools.product(values, repeat=3):
        words = zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), (rank, count, local))
        found = {name: value for name, value in words if value is not None}
        for place in ({}, {"MASTER_ADDR": "a"}, {"MASTER_ADDR": "a", "MASTER_PORT": "1"}):
            try:
                result = read_launch(found | place)
            except UserError as error:
                assert "\n" not in str(error)
            else:
                assert result is None or max(result.rank, result.local_rank) < result.count


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(launch, "RENDEZVOUS", timedelta(seconds=1.5))


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def gives_up(rank, port, says, address="127.0.0.1"):
    with pytest.raises(UserError) as caught:
        meet(Launch(rank, 2, rank, address, port, is_host=rank == 0), "gloo")
    message = str(caught.value)
    assert f"process {rank} of 2 waited for {says} at {address}:{port}" in message
    assert "\n" not in message and "unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR" in message
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1", "no.such.host.invalid"])
def test_a_host_gives_up_and_says_who_did_not_come(soon, port, address):
    gives_up(0, port, "number 1", address)


def test_nobody_at_the_port(soon, port, capfd):
    gives_up(1, port, "the others")
    assert "frame #" not in capfd.readouterr().err  # torch would write pages


def test_another_server_at_the_port(soon):
    """It takes the connection, and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        gives_up(1, server.getsockname()[1], "the others")


def test_a_port_that_is_taken(soon):
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        gives_up(0, server.getsockname()[1], "the others")


@pytest.mark.parametrize(
    "words, gone",
    [
        ("[pair.cc:561] Connection closed by peer [127.0.0.1]:2977. This is typically", True),
        ("Read error [127.0.0.1]:5: Connection reset by peer", True),
        ("Timed out waiting 1000ms for recv operation to complete", True),
        ("NCCL error: remote process exited or there was a network error", True),
        ("The size of tensor a (3) must match the size of tensor b (4)", False),
        ("NCCL error: invalid usage", False),
    ],
)
def test_another_process_is_gone_only_where_it_is(words, gone):
    with pytest.raises(UserError if gone else RuntimeError, match="gone" if gone else words[:8]):
        with others_gone():
            raise RuntimeError(words)


def test_memory_that_is_not_enough_is_no_process_that_is_gone():
    with pytest.raises(torch.OutOfMemoryError), others_gone():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


SCRIPT = """
import sys
from llava.utils.cli import guard
from llava.utils.distributed import Processes

def work():
    processes = Processes("cpu")
    print(processes.gather(processes.rank), processes.share("abc"), flush=True)
    processes.wait()
    return int(sys.argv[1])

sys.exit(guard(work))
"""


def test_two_processes_meet_and_leave(port):
    """Both ends are those that the command asked for: no signal, no message."""
    status = 2
    started = []
    for rank in ("0", "1"):
        place = FULL | {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": str(port)}
        place |= {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", SCRIPT, str(status)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=os.environ | place, text=True, **pipes))
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [status, status]
    assert [out for out, _ in ended] == ["[0, 1] ['a', 'c']\n", "[0, 1] ['b']\n"]
    assert all("terminate" not in err for _, err in ended)


def test_alone_nothing_is_opened(monkeypatch):
    for name in FULL:
        monkeypatch.delenv(name, raising=False)
    before = threading.active_count()
    processes = Processes("cpu")
    assert (processes.rank, processes.count, processes.gather("x")) == (0, 1, ["x"])
    processes.wait()
    assert threading.active_count() == before and not torch.distributed.is_initialized()
