"""Counts how two-process runs end under load: ``python -m tests.load.stress_endings``.

Every run trains the toy in two processes, which then end as a command does. They are forked from
one process that has imported everything, so that a run takes no longer than its work; --torchrun
starts each run as people do, which takes some 10 s of a core. Not a test: CI has no time for it.
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.figure  # noqa: F401  here, so that no run has to
import torch.utils.tensorboard  # noqa: F401

from tests.helpers import toy_stage

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def quiet(log: Path) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)


def start_forked(folder: Path) -> list[int]:
    """Starts a run; gives its two processes."""
    meet = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    children = []
    for rank in ("0", "1"):
        child = os.fork()
        if child == 0:
            os.environ.update(meet, RANK=rank, LOCAL_RANK=rank)
            quiet(folder.with_suffix(f".{rank}"))
            toy_stage.train_toy(folder, save_every=50)
            sys.exit(0)  # through Python's own end
        children.append(child)
    return children


def start_torchrun(folder: Path) -> list[int]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    child = os.fork()
    if child == 0:
        quiet(folder.with_suffix(".err"))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        os.execve(sys.executable, [*command, toy_stage.__file__, str(folder)], environment)
    return [child]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--torchrun", action="store_true")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="endings-"))
    start = start_torchrun if args.torchrun else start_forked
    counts: Counter = Counter()
    run_of: dict[int, int] = {}
    statuses: dict[int, dict[int, int]] = {}
    started = 0
    while run_of or started < args.runs:
        while started < args.runs and len(set(run_of.values())) < args.at_once:
            run_of |= dict.fromkeys(start(folder / f"run{started}"), started)
            started += 1
        child, status = os.wait()
        number = run_of.pop(child)
        ended = statuses.setdefault(number, {})
        ended[child] = os.waitstatus_to_exitcode(status)
        if number in run_of.values():
            continue
        run = folder / f"run{number}"
        whole = (run / "step-00000024").is_dir()
        counts[f"exit {[*ended.values()]}, {'whole' if whole else 'not whole'}"] += 1
        print(number, dict(counts), flush=True)
        if whole and not any(ended.values()):
            shutil.rmtree(run)
    print(dict(counts), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
