"""The one training loop of all stages, on one or many processes, CPU or GPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import Optional

from torch import nn

from llava.train.arguments import make_plan
from llava.train.batches import Data, micro_batches
from llava.train.checkpoints import read_state, save_checkpoint
from llava.train.distributed import Team
from llava.train.progress import Progress
from llava.train.settings import settings_of
from llava.train.stage import RunFolder, Stage
from llava.train.step import Learner
from llava.utils.stopping import noting_what_is_kept


def train(
    stage: Stage,
    objective: nn.Module,
    data: Data,
    settings: dict,
    groups: Optional[Sequence[tuple[str, float]]] = None,
) -> None:
    """Trains the parameters of an objective that require a gradient, in place.

    The loss that is minimised is the sum over a batch divided by the batch's weight, over all
    processes and micro batches. Order and noise of every step follow from the seed alone: a run
    that was interrupted, or is spread over processes, has the result of an undisturbed one.

    Args:
        stage: an open one.
        objective: objective(batch) returns scalars summed over the batch: "loss", and others that
            are logged per weight too, always the same ones. Where "batch_weight" is among them,
            the loss is multiplied by its mean over the whole batch of a step, whatever forward
            passes that takes. It is moved to the device and put into
            training mode (one that wants frozen parts without dropout overrides train()). Buffers
            are not saved.
        data: the samples.
        settings: all that the result depends on besides the flags (input hashes, ...), JSON; a run
            is not continued with others.
        groups: (prefix of parameter names, learning rate) of parts that learn at their own rate.

    Raises:
        UserError: the batch cannot be split, the output folder is another run's, the data cannot be
            read, the loss is not finite, or the disk is full. On every process.
    """
    name, args, team, folder = stage.name, stage.args, stage.team, stage.folder
    plan = make_plan(args, len(data), team.count)
    learner = Learner(objective, data, args, plan, groups or [], team)
    chosen = {"stage": name, "samples": len(data), "groups": groups or []}
    chosen |= settings_of(args) | plan.settings() | settings
    team.first_does(lambda: folder.begin(chosen, args))
    begun, seconds = _resume(learner, folder, team)
    if begun >= plan.steps:
        _say(team, f"{name}: all {plan.steps} steps are done already, in {args.output_dir}")
        return
    if begun:
        _say(team, f"{name}: {begun} of {plan.steps} steps done before; going on")
    since = time.monotonic() - seconds
    share = plan.micro_batches // plan.processes
    with (
        team.first_opens(
            lambda: Progress(name, folder.path, begun, plan.steps, args.log_every)
        ) as progress,
        closing(micro_batches(data, plan, args.seed, begun, team.rank)) as mine,
        noting_what_is_kept(lambda: _how_far(folder, plan.steps)),
    ):
        for step in range(begun, plan.steps):
            numbers = learner.step(step, islice(mine, share))
            done = step + 1
            team.first_does(lambda: progress.report(done, numbers))
            if done % args.save_every == 0 or done == plan.steps:
                state = {"step": done, "seconds": time.monotonic() - since}
                team.first_does(
                    lambda: _save(learner, folder, progress, state, args.keep_checkpoints)
                )


def _resume(learner: Learner, folder: Optional[RunFolder], team: Team) -> tuple[int, float]:
    """Returns the steps and seconds trained before; the learner loads their checkpoint."""
    newest = team.gather(folder.newest if folder else None)[0]
    if newest is None:
        return 0, 0.0
    failure = None
    try:
        learner.restore(newest)
        state = read_state(newest)
    except Exception as error:
        failure = error
    team.agree(failure)
    return state["step"], state["seconds"]


def _how_far(folder: Optional[RunFolder], steps: int) -> Optional[str]:
    """Returns how much of a stopped run stays.

    None where another process says it, or there is nothing to say.
    """
    if folder is None or folder.newest is None:
        return None
    return f"{read_state(folder.newest)['step']} of {steps} steps are kept in {folder.path}"


def _save(learner: Learner, folder: RunFolder, progress: Progress, state: dict, keep: int) -> None:
    """Writes a checkpoint, after the log that it counts on."""
    progress.settle()
    save_checkpoint(folder.path, learner.parameters, learner.state(), state, keep)


def _say(team: Team, text: str) -> None:
    if team.is_first:
        print(text)
