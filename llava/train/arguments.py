"""The flags that all training stages share, and the plan that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Optional

from llava.arguments import ModelArguments, flag, list_flag
from llava.budgets import AskedBudget
from llava.errors import UserError

SCHEDULES = ("linear", "cosine", "constant")
SHORT = 3  # words of a short answer, at most


# llava.utils.flags turns each field into a flag; it knows Optional[int], not int | None.
@dataclass
class TrainArguments:
    """How to train. Every field is a flag; a stage subclasses it and sets its own defaults."""

    output_dir: str = flag(
        "Folder for checkpoints, loss log, loss curve, TensorBoard events and the settings. The "
        "same command goes on from the newest checkpoint in it."
    )
    seed: int = flag("Decides the order of the samples and all noise.", 0)
    max_steps: Optional[int] = flag(
        "Optimiser steps; give this or --epochs. Can be raised later with --schedule constant."
    )
    epochs: Optional[float] = flag("Passes over the data; give this or --max-steps.")
    batch_size: int = flag("Samples of one optimiser step, over all processes.", 32)
    micro_batch_size: Optional[int] = flag(
        "Samples of one forward pass; gradients of several are added up to --batch-size. Default: "
        "the batch size divided by the number of processes."
    )
    learning_rate: float = flag("Highest learning rate of the schedule.", 1e-4)
    weight_decay: float = flag("AdamW's; on matrices, not on biases and norms.", 0.0)
    beta1: float = flag("AdamW's.", 0.9)
    beta2: float = flag("AdamW's.", 0.999)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 0)
    schedule: str = flag("What follows; linear and cosine go down to 0.", "linear", SCHEDULES)
    max_grad_norm: float = flag("Longer gradients are shortened to this; 0: none are.", 0.0)
    mixed_precision: str = flag("The arithmetic of forwards.", "no", ("no", "bf16", "fp16"))
    device: str = flag("auto is a GPU if there is one.", "auto", ("auto", "cpu", "cuda"))
    save_every: int = flag("Steps between checkpoints; the last step has one always.", 1000)
    keep_checkpoints: int = flag("How many checkpoints are kept.", 2)
    log_every: int = flag("Steps between TensorBoard points; loss.jsonl has every step.", 10)


def model_flag(name: str) -> Any:
    """Returns a dataclass field for one of ModelArguments; a stage has those that it respects."""
    known = ModelArguments.__dataclass_fields__[name]
    return field(
        default=known.default, default_factory=known.default_factory, metadata=known.metadata
    )


@dataclass
class SeeingArguments(TrainArguments):
    """Flags of a stage that looks at images."""

    model_path: str = model_flag("model_path")
    vision_tower: Optional[str] = model_flag("vision_tower")
    checkpoints_root: str = model_flag("checkpoints_root")
    dtype: str = model_flag("dtype")
    patch_post_layernorm: Optional[bool] = model_flag("patch_post_layernorm")
    features: Optional[str] = flag(
        "Folder that keeps the tower's outputs for all images (2 MiB an image for CLIP-L/336). "
        "Default: features, in the output folder."
    )


@dataclass
class AskingArguments(SeeingArguments):
    """Flags of a stage that asks a frozen model."""

    text_selection: Optional[str] = model_flag("text_selection")
    gpt2: Optional[str] = model_flag("gpt2")
    caption_model: Optional[str] = model_flag("caption_model")
    longclip: Optional[str] = model_flag("longclip")
    device_map: Optional[str] = model_flag("device_map")
    data: str = flag("Questions with answers in LLaVA's instruction format.")
    images: str = flag("Folder of their images.")
    budget: AskedBudget = flag(
        "Visual tokens that the LLM reads: a number, or a share of an image's tokens (1/9, 11%).",
        36,
    )
    budgets: list[AskedBudget] = list_flag(
        "Several such budgets in the place of --budget, drawn evenly for the questions.", ()
    )

    @property
    def kept(self) -> AskedBudget | list[AskedBudget]:
        """The budget of visual tokens that the LLM reads, or several budgets to draw from."""
        return self.budgets or self.budget


def model_arguments(args: TrainArguments) -> ModelArguments:
    """Returns a stage's flags of the model.

    Nothing is compensated while a stage learns, and products are plain, so that a stage continues
    identically on another kind of processor. A stage's --silence says whether it teaches silence,
    so it is not passed on.
    """
    known = {f.name: getattr(args, f.name) for f in fields(ModelArguments) if hasattr(args, f.name)}
    return ModelArguments(
        **(known | {"compensation": False, "cpu_products": "plain", "silence": None})
    )


@dataclass(frozen=True)
class Plan:
    """The steps and batches for a number of samples and processes."""

    steps: int
    batch_size: int
    micro_batch_size: int
    processes: int

    def settings(self) -> dict:
        """Returns the part of the plan that decides the result."""
        return {"max_steps": self.steps, "micro_batch_size": self.micro_batch_size}

    @property
    def micro_batches(self) -> int:
        """The forward passes of one step, over all processes."""
        return self.batch_size // self.micro_batch_size


def check_arguments(args: TrainArguments) -> None:
    """Refuses arguments that training cannot use.

    Raises:
        UserError: a value is out of its range; the message names the flag.
    """
    if args.output_dir is None:
        raise UserError("say where checkpoints and logs go: --output-dir FOLDER")
    for of in fields(TrainArguments):
        known = of.metadata["choices"]
        if known and getattr(args, of.name) not in known:
            _refuse(args, of.name, f"the choices are {', '.join(known)}")
    lowest = {"batch_size": 1, "micro_batch_size": 1, "max_steps": 1, "warmup_steps": 0}
    lowest |= {"save_every": 1, "keep_checkpoints": 1, "log_every": 1, "seed": 0}
    lowest |= {"weight_decay": 0, "max_grad_norm": 0, "learning_rate": 0, "beta1": 0, "beta2": 0}
    for name, bound in lowest.items():
        value = getattr(args, name)
        if value is not None and not (bound <= value and math.isfinite(value)):
            _refuse(args, name, f"it must be at least {bound}")
    for name in ("beta1", "beta2"):
        if getattr(args, name) >= 1:
            _refuse(args, name, "it must be below 1")
    if (args.max_steps is None) == (args.epochs is None):
        raise UserError("give one of --max-steps and --epochs: it decides how long to train")
    if args.epochs is not None and not (0 < args.epochs < math.inf):
        _refuse(args, "epochs", "it must be above 0")
    if args.device == "cpu" and getattr(args, "device_map", None) is not None:
        raise UserError("--device-map spreads over GPUs: leave it out with --device cpu")


def make_plan(args: TrainArguments, samples: int, processes: int) -> Plan:
    """Plans the steps and batches for checked arguments.

    Raises:
        UserError: there are no samples, or the batch cannot be split as asked.
    """
    if samples == 0:
        raise UserError("there are no samples to train on: check the data's path")
    micro = args.micro_batch_size or max(1, args.batch_size // processes)
    if args.batch_size % (micro * processes):
        raise UserError(
            f"--batch-size {args.batch_size} cannot be split into forwards of {micro} samples on "
            f"{processes} processes: make it a multiple of {micro * processes}, or choose another "
            "--micro-batch-size"
        )
    steps = args.max_steps
    if steps is None:
        steps = math.ceil((args.epochs or 0) * samples / args.batch_size)
    return Plan(steps, args.batch_size, micro, processes)


def _refuse(args: TrainArguments, name: str, rule: str) -> None:
    raise UserError(f"--{name.replace('_', '-')} is {getattr(args, name)!r}: {rule}")
