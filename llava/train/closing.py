"""The end of a stage: its weights, their record, and lines on what was done."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from torch import Tensor
from tqdm import tqdm

from llava.command import called
from llava.train.checkpoints import list_checkpoints, read_state
from llava.train.progress import describe_loss, read_losses
from llava.train.provenance import save_weights, write_record
from llava.train.settings import settings_of
from llava.train.stage import Stage

Weights = Mapping[Path, Mapping[str, Tensor]]


def finish(
    stage: Stage,
    settings: dict,
    inputs: Mapping[str, Path],
    use: str,
    weights: Weights | Callable[[], Sequence[Path]],
) -> int:
    """Writes the weights of a trained stage and their record; only the first process does.

    Args:
        stage: the stage.
        settings: all that the result depends on besides the flags, JSON.
        inputs: files or folders that it read, by their role.
        use: a command that uses the weights.
        weights: the tensors of each file, all in one folder, or a function that writes them and
            returns the files.

    Returns:
        The exit status.

    Raises:
        UserError: a file cannot be read or written.
    """
    if stage.team.is_first:
        files = weights() if callable(weights) else write_weights(weights)
        run = Path(stage.args.output_dir)
        settings = settings_of(stage.args) | settings
        write_record(files[0].parent, stage.name, settings, files, inputs, run)
        say_done(stage, files, use)
    return 0


def write_weights(weights: Weights) -> list[Path]:
    """Writes the tensors of each file into its folder, which is made; returns the files."""
    for path, tensors in weights.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(path, tensors)
    return list(weights)


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
