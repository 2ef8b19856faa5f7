"""AdamW with learning rates that follow a schedule, with groups at their own rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from llava.train.arguments import TrainArguments


def trainable(objective: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters that are trained and saved, by name.

    Raises:
        ValueError: there are none, or one has only 16 bits, too few to add up small steps.
    """
    found = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError("no parameter of the objective requires a gradient")
    for name, parameter in found.items():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(f"{name} is trained and must be float32, not {parameter.dtype}")
    return found


def build_optimiser(
    parameters: dict[str, nn.Parameter],
    args: TrainArguments,
    groups: Sequence[tuple[str, float]] = (),
) -> torch.optim.AdamW:
    """Builds AdamW over named parameters.

    Args:
        parameters: the trained ones.
        args: learning rate, weight decay (on matrices only) and betas.
        groups: (prefix, learning rate) for parameters whose name has the prefix; the first match
            counts; the others have the learning rate of args.

    Returns:
        The optimiser; each of its groups keeps the schedule's highest rate as "highest".

    Raises:
        ValueError: a prefix fits no parameter.
    """
    for prefix, _ in groups:
        if not any(name.startswith(prefix) for name in parameters):
            raise ValueError(f"no trained parameter's name starts with {prefix!r}")
    collected: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        rates = (rate for prefix, rate in groups if name.startswith(prefix))
        decay = args.weight_decay if parameter.ndim >= 2 else 0.0
        collected.setdefault((next(rates, args.learning_rate), decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "lr": rate, "highest": rate, "weight_decay": decay}
            for (rate, decay), members in collected.items()
        ],
        betas=(args.beta1, args.beta2),
    )


def set_learning_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's learning rate to a share of its highest rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["highest"] * factor


def schedule_factor(schedule: str, step: int, warmup: int, steps: int) -> float:
    """Returns a step's learning rate as a share of the highest, as transformers' schedules do.

    Args:
        schedule: linear, cosine or constant.
        step: number of the step, from 0.
        warmup: steps in which it rises from 0.
        steps: number of all steps.
    """
    if step < warmup:
        return step / warmup
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def has_begun_as(steps: int, begun: int, before: int, args: TrainArguments) -> bool:
    """Tells whether a run planned for another number of steps has done the same so far.

    Args:
        steps: of the new plan.
        begun: steps that are done.
        before: steps of the old plan.
        args: schedule and warm-up, of both.
    """
    if begun > steps:
        return False
    rates = [
        [schedule_factor(args.schedule, step, args.warmup_steps, all_) for step in range(begun)]
        for all_ in (steps, before)
    ]
    return rates[0] == rates[1]
