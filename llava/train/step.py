"""One optimiser step: forwards and backwards of all micro batches, one gradient, one update.

The optimiser is AdamW; learning rates follow a schedule, and groups have their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from llava.errors import UserError
from llava.train.arguments import Plan, TrainArguments
from llava.train.batches import Data, MicroBatch
from llava.train.checkpoints import load_checkpoint
from llava.train.distributed import Team

_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Learner:
    """An objective and its optimiser, the same on every process after every step.

    Gradients are summed over the processes once a step, not by DistributedDataParallel: so a
    parameter may go unused, the frozen part is not sent, and the sum is exact whatever the
    weights of the batches are.

    Args:
        objective: moved to the team's device and put into training mode.
        data: names the samples of a batch that cannot be learnt from.
        args: checked.
        plan: the split of a step.
        groups: learning rates of parts, as build_optimiser takes them.
        team: the processes.
    """

    def __init__(
        self,
        objective: nn.Module,
        data: Data,
        args: TrainArguments,
        plan: Plan,
        groups: Sequence[tuple[str, float]],
        team: Team,
    ) -> None:
        self._device = torch.device(team.device)
        self._objective = objective.to(self._device).train()
        self._data, self._args, self._plan, self._team = data, args, plan, team
        self.parameters = trainable(objective)
        self._optimiser = build_optimiser(self.parameters, args, groups)
        self._scaler = torch.amp.GradScaler(
            self._device.type, enabled=args.mixed_precision == "fp16"
        )
        for parameter in self.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        team.copy_first_([parameter.data for parameter in self.parameters.values()])

    def state(self) -> dict:
        """Returns what a checkpoint keeps besides the parameters."""
        return {"optimiser": self._optimiser.state_dict(), "scaler": self._scaler.state_dict()}

    def restore(self, checkpoint: Path) -> None:
        """Loads parameters and state from a checkpoint.

        Raises:
            UserError: it is damaged or another model's.
        """
        state = load_checkpoint(checkpoint, self.parameters)
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])

    def step(self, number: int, micro_batches: Iterable[MicroBatch]) -> dict[str, float]:
        """Performs the optimiser step on one batch.

        Args:
            number: of the step, from 0; decides the learning rate.
            micro_batches: this process's part of the batch.

        Returns:
            "loss" and the objective's other numbers per unit of weight, over all processes, the
            loss multiplied by the objective's "batch_weight" where it has one; "learning_rate";
            "grad_norm", before clipping.

        Raises:
            UserError: a loss or the gradient is not finite (no update is made then), the data
                cannot be read, or another process failed.
        """
        parts, failure = [], None
        for gradient in self._gradients():
            gradient.zero_()
        try:
            parts = [(micro.indices, self._add_gradient(micro)) for micro in micro_batches]
        except Exception as error:
            failure = error
        self._team.agree(failure)
        means, weight = self._means([sums for _, sums in parts])
        factor = means.get("batch_weight", 1.0)
        means["loss"] *= factor
        if not math.isfinite(means["loss"]):
            bad = [
                indices
                for indices, sums in parts
                if not math.isfinite(sums["loss"] * sums.get("batch_weight", 1.0))
            ]
            self._stop(number, "the loss", means["loss"], bad)
        self._team.sum_(self._gradients())
        self._scaler.unscale_(self._optimiser)
        for gradient in self._gradients():
            gradient.mul_(factor * self._plan.batch_size / weight)
        norm = torch.nn.utils.get_total_norm(self._gradients())
        # A scaler whose scale has grown too large skips the step and scales down by itself.
        if not math.isfinite(norm) and self._scaler.get_scale() <= 1:
            self._stop(number, "the gradient's norm", norm.item(), [ids for ids, _ in parts])
        self._update(number, norm)
        rate = self._args.learning_rate * self._factor(number)
        return means | {"learning_rate": rate, "grad_norm": norm.item()}

    def _gradients(self) -> list[torch.Tensor]:
        return [parameter.grad for parameter in self.parameters.values()]

    def _add_gradient(self, micro: MicroBatch) -> dict[str, torch.Tensor]:
        """Adds the gradient of one micro batch's summed loss.

        The loss is divided by the number of samples in a batch: 16 bits can hold the result.

        Returns:
            The objective's sums and the batch's weight, float64 scalars.
        """
        batch = micro.batch.to(self._device)
        torch.manual_seed(micro.seed)  # for dropout and sampling, on CPU and GPU
        dtype = _DTYPES[self._args.mixed_precision]
        with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
            sums = self._objective(batch)
        self._scaler.scale(sums["loss"] / self._plan.batch_size).backward()
        weight = torch.tensor(batch.weight, dtype=torch.float64, device=self._device)
        return {"weight": weight} | {key: value.detach().double() for key, value in sums.items()}

    def _means(self, parts: list[dict[str, torch.Tensor]]) -> tuple[dict[str, float], float]:
        """Returns means per weight over the micro batches of all processes, and their weight."""
        names = list(parts[0])
        totals: list[Any] = [sum(part[name] for part in parts) for name in names]
        total = torch.stack(totals)
        self._team.sum_([total])
        sums = dict(zip(names, total.tolist()))
        weight = sums.pop("weight")
        if weight == 0:
            return dict.fromkeys(sums, math.nan), weight
        return {name: value / weight for name, value in sums.items()}, weight

    def _update(self, number: int, norm: torch.Tensor) -> None:
        if self._args.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(
                self.parameters.values(), self._args.max_grad_norm, norm
            )
        set_learning_rates(self._optimiser, self._factor(number))
        self._scaler.step(self._optimiser)
        self._scaler.update()

    def _factor(self, number: int) -> float:
        args = self._args
        return schedule_factor(args.schedule, number, args.warmup_steps, self._plan.steps)

    def _stop(self, number: int, what: str, value: float, batches: list[list[int]]) -> NoReturn:
        """Ends the run on every process, naming the samples that each process found at fault."""
        own = [self._data.describe(indices) for indices in batches]
        names = [name for part in self._team.gather(own) for name in part]
        raise UserError(
            f"step {number + 1}: {what} is {value} for {'; '.join(names) or 'the batch'}. Nothing "
            "was learnt from it, and the newest checkpoint is whole. Look at these samples, or "
            "train with a lower --learning-rate into another --output-dir"
        )


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
