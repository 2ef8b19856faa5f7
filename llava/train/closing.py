"""The last lines of a stage: the steps done, the files written, and their use."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from tqdm import tqdm

from llava.command import called
from llava.train.checkpoints import list_checkpoints, read_state
from llava.train.progress import describe_loss, read_losses
from llava.train.stage import Stage


def say_done(stage: Stage, written: Sequence[Path], use: str) -> None:
    """Prints a finished stage's steps, time and loss, the files it wrote, and the next command.

    Args:
        stage: one that has a checkpoint.
        written: files of its weights.
        use: a command that uses them.

    Raises:
        UserError: the log of the losses is damaged.
    """
    run = Path(stage.args.output_dir)
    state, log = read_state(list_checkpoints(run)[-1]), run / "loss.jsonl"
    losses = read_losses(log) if log.is_file() else {}
    loss = f", {describe_loss(losses.values())}" if losses else ""
    time = tqdm.format_interval(state["seconds"])
    print(f"{stage.name}: {state['step']} steps, {time} of training{loss}")
    print(f"written: {', '.join(map(str, written))}; next: {use}", flush=True)


def command_line(module: str, **flags: Optional[object]) -> str:
    """Returns the command line that calls a module with flags.

    Args:
        module: its name. A stage requires flags of its own too, which three dots stand for.
        flags: their values by field; True for one without a value. Those that are None are left
            out.
    """
    words = []
    for name, value in flags.items():
        if value is not None:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [shlex.quote(str(value))]
    more = ["..."] if module.startswith("llava.train.") else []
    return " ".join([called(module), *words, *more])
