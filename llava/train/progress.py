"""What a run shows and writes of each step: bar, loss.jsonl, TensorBoard, loss curve."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

from llava.errors import UserError
from llava.extras import missing_package
from llava.files import parse_json, read_text, replacing
from llava.train.checkpoints import disk_errors, flush_to_disk

WINDOW = 100  # steps whose mean loss is shown; the files have the loss of each step


class Progress:
    """The reports of one run; the first process has one.

    Args:
        name: of the stage, shown before the bar.
        folder: where loss.jsonl, loss.png and tensorboard/ go.
        step: steps done before; records of later ones in the files are dropped.
        steps: all steps.
        log_every: steps between TensorBoard points.

    Raises:
        UserError: tensorboard or matplotlib is not installed, or the disk is full or gone.
    """

    def __init__(self, name: str, folder: Path, step: int, steps: int, log_every: int) -> None:
        try:
            import matplotlib  # noqa: F401  if it is missing, fail now, not hours later
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise missing_package("training", error.name, "train") from error
        self._name, self._folder, self._log_every = name, folder, log_every
        with disk_errors(folder):
            _cut_after(folder / "loss.jsonl", step)
            self._lines = (folder / "loss.jsonl").open("ab", buffering=0)
            self._recent = deque(read_losses(folder / "loss.jsonl").values(), WINDOW)
            self._events = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=name,
            total=steps,
            initial=step,
            unit="step",
            mininterval=0.5 if on_terminal else 30,
            dynamic_ncols=on_terminal,
        )

    def report(self, step: int, numbers: dict[str, float]) -> None:
        """Records one step.

        Args:
            step: number of steps done.
            numbers: "loss" and others.

        Raises:
            UserError: the disk is full or gone.
        """
        told = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        line = (json.dumps({"step": step} | told) + "\n").encode()
        with disk_errors(self._folder):
            if self._lines.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if step % self._log_every == 0 or step == self._bar.total:
                for key, value in numbers.items():
                    self._events.add_scalar(f"{self._name}/{key}", value, step)
        self._recent.append(numbers["loss"])
        self._bar.set_postfix_str(describe_loss(self._recent), refresh=False)
        self._bar.update()

    def settle(self) -> None:
        """Flushes the log to the disk, before a checkpoint that relies on it, and draws the curve.

        Raises:
            UserError: the disk is full or gone.
        """
        with disk_errors(self._folder):
            flush_to_disk(self._folder / "loss.jsonl")
            self._events.flush()
            draw_losses(self._folder / "loss.jsonl", self._folder / "loss.png", self._name)

    def close(self) -> None:
        """Closes bar and files."""
        self._bar.close()
        self._lines.close()
        with suppress(OSError):  # a full disk was reported already; the log itself is complete
            self._events.close()


def read_losses(log: Path) -> dict[int, float]:
    """Returns the loss of each step in a loss.jsonl.

    Raises:
        UserError: a line is damaged.
    """
    numbered = enumerate(read_text(log).splitlines(), start=1)
    records = [_parse(line, log, number) for number, line in numbered]
    return {record["step"]: record["loss"] for record in records}


def describe_loss(losses: Iterable[float]) -> str:
    """Returns the mean of the last WINDOW losses, and their number."""
    recent = deque(losses, WINDOW)
    return f"loss {fmean(recent):.4f} (mean of {len(recent)} steps)"


def draw_losses(log: Path, picture: Path, title: str) -> None:
    """Draws the losses of a loss.jsonl, each and the mean of the last ones, as a PNG."""
    from matplotlib.figure import Figure  # slow to import, and an extra

    points = read_losses(log)
    sums = [0.0, *accumulate(points.values())]
    means = [(sums[i] - sums[max(0, i - WINDOW)]) / min(i, WINDOW) for i in range(1, len(sums))]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*points.items()), color="tab:blue", alpha=0.3, linewidth=0.8, label="each step")
    axes.plot(list(points), means, color="tab:blue", label=f"mean of the last {WINDOW}")
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(picture) as partial:
        figure.savefig(partial, format="png", dpi=120)


def _cut_after(log: Path, step: int) -> None:
    """Drops the lines of later steps, and a partial line that a killed process left."""
    if not log.exists():
        return
    kept = 0
    with log.open("rb+") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") or _parse(line, log, number)["step"] > step:
                break
            kept += len(line)
        file.truncate(kept)


def _parse(line: str | bytes, log: Path, number: int) -> dict:
    """Returns the record of a step."""
    try:
        record: Any = parse_json(line if isinstance(line, str) else line.decode("utf-8"))
        if type(record["step"]) is not int or type(record["loss"]) not in (int, float):
            raise ValueError("no step with its loss")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{log}, line {number} is damaged: delete this line") from error
    return record
