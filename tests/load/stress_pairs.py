"""Starts pairs of runs on one training folder at once: ``python -m tests.load.stress_pairs``.

Each run mines into a file of lines and then trains the toy. In every second pair one of the two is
killed at a random time; the folder is then finished by a third run. Counts pairs in which a line
was mixed or lost, or in which not exactly one of two living runs was refused. Not a test: CI has no
time for a hundred; tests/train/test_stage.py starts a few.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import matplotlib.figure  # noqa: F401  here, so that no run has to
import torch.utils.tensorboard  # noqa: F401

from llava.errors import UserError
from llava.train.resumable import resumable
from llava.train.stage import open_stage
from llava.train.trainer import train
from tests.helpers.toy_stage import Toy, ToyData, toy_arguments

KEPT = ("mined.jsonl", "loss.jsonl", "step-00000024/model.safetensors")
REFUSED, WRONG = 2, 3


def mine_and_train(folder, seconds):
    """A stage of toy size that takes its time before it learns."""
    args = toy_arguments(folder)

    def work(numbers):
        time.sleep(seconds)
        return [{"number": number, "by": "x" * 500} for number in numbers]

    with open_stage("toy", args) as stage:
        resumable(folder / "mined.jsonl", 40, 2, lambda: work, "mined", {"toy": 1}, args)
        train(stage, Toy(), ToyData(), {"data": "toy"})


def start(folder, log, moment):
    """A child that begins at a moment; its exit status says what became of it."""
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.dup2(2, 1)
    time.sleep(max(0.0, moment - time.time()))
    status = WRONG
    try:
        mine_and_train(folder, 0.05)
        status = 0
    except UserError as error:
        print(error, flush=True)
        status = REFUSED if "another run trains into" in str(error) else WRONG
    finally:
        os._exit(status)


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder):
    return [(folder / name).read_bytes() for name in KEPT]


def pair(folder, expected, kill):
    """What went wrong in a pair, or "" for nothing."""
    log, moment = folder.with_suffix(".log"), time.time() + 0.05
    children = [start(folder, log, moment) for _ in range(2)]
    if kill:
        time.sleep(0.05 + random.uniform(0, 1.5))
        os.kill(random.choice(children), signal.SIGKILL)
    statuses = sorted(map(status_of, children))
    if kill:
        if statuses.count(0) > 1 or WRONG in statuses or statuses.count(REFUSED) > 1:
            return f"statuses {statuses}"
        statuses = [0, status_of(start(folder, log, 0))]
        if statuses != [0, 0]:
            return f"the third run ended with {statuses[1]}"
    elif statuses != [0, REFUSED]:
        return f"statuses {statuses}"
    return "" if contents(folder) == expected else "other contents than alone"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="pairs-"))
    assert status_of(start(folder / "alone", folder / "alone.log", 0)) == 0
    expected = contents(folder / "alone")
    counts = Counter()
    for number in range(args.pairs):
        kill = number % 2 == 1
        wrong = pair(folder / f"pair{number}", expected, kill)
        counts[f"{'killed' if kill else 'not killed'}: {wrong or 'right'}"] += 1
        print(number, dict(counts), flush=True)
        if not wrong:
            shutil.rmtree(folder / f"pair{number}")
    return int(any("right" not in name for name in counts))


if __name__ == "__main__":
    sys.exit(main())
