"""Measures time and memory of a few steps of each training stage at real shapes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from llava.eval.bench.memory import PeakMemory
from llava.eval.bench.methods import questions
from llava.eval.bench.speed import synchronise
from llava.model.compensation.selector import Selector
from llava.model.llava_arch import LlavaAccm
from llava.train.arguments import TrainArguments, make_plan
from llava.train.batches import MicroBatch
from llava.train.candidates import write_candidates
from llava.train.distributed import Team
from llava.train.samples import Look, ShortQuestion
from llava.train.stages.arguments import (
    CaptionArguments,
    CompensationArguments,
    SelectorArguments,
)
from llava.train.stages.caption import CaptionObjective, caption_batch
from llava.train.stages.compensation import CompensationBatch, CompensationObjective
from llava.train.stages.selector import ChoiceBatch, SelectorObjective
from llava.train.step import Learner

if TYPE_CHECKING:
    from scripts.gpu.parts import Check

KEPT, SMALLEST = 36, 18  # visual tokens; the smallest budget pads a batch of captions
CAPTION_BATCH, CAPTION = 40, 12  # captions, and tokens of each: those of the published training
TRIED = 32  # questions that are tried at once
STEPS = 4  # the first one is not timed


def measure_training(check: Check) -> dict:
    """Measures a step of each stage with random weights, in bfloat16 where the recipe uses it."""
    model = check.model(check.arguments().shape)
    stages: dict[str, Callable[[LlavaAccm, Check], dict]] = {
        "train_caption: a step of 40 captions": _caption,
        "train_selector: 32 questions tried (captions drawn)": _tried,
        "train_selector: a step of 32 questions": _selector,
        "train_compensation: a step of 4 questions": _compensation,
    }
    rows = {}
    for name, stage in stages.items():
        rows[name] = stage(model, check)
        print(name, rows[name], flush=True)
    return {"rows": rows}


def _caption(model: LlavaAccm, check: Check) -> dict:
    caption_model = model.compensator.caption_model
    ids = model.compensator.tokenizer.encode(questions(1)[0])
    n, width = model.count_tokens(), model.tower.clip.config.projection_dim
    batch = caption_batch(
        [torch.randn(n - SMALLEST, width) for _ in range(CAPTION_BATCH)],
        [ids] * CAPTION_BATCH,
        [list(range(1, CAPTION + 1))] * CAPTION_BATCH,
        len(caption_model.clip_project.prefix_const),
    )
    args = CaptionArguments(batch_size=CAPTION_BATCH, mixed_precision="bf16", max_steps=STEPS)
    return _steps(CaptionObjective(_trained(caption_model)), batch, args, check)


def _selector(model: LlavaAccm, check: Check) -> dict:
    selector = model.compensator.selector
    batch = ChoiceBatch(torch.randn(TRIED, 3, selector.head.in_features), torch.ones(TRIED, 3))
    args = SelectorArguments(batch_size=TRIED, max_steps=STEPS)
    return _steps(SelectorObjective(_trained(selector)), batch, args, check)


def _tried(model: LlavaAccm, check: Check) -> dict:
    compensator, device = model.compensator, check.place.device
    n, width = model.count_tokens(), model.tower.clip.config.projection_dim
    number = 2 if check.rehearse else TRIED
    dropped = [torch.randn(n - KEPT, width).to(device, check.place.dtype) for _ in range(number)]
    asked = [question.split("\n")[0] for question in questions(number)]
    parts = (compensator.caption_model, compensator.tokenizer)
    with PeakMemory(device) as peak:
        start = time.perf_counter()
        write_candidates(*parts, dropped, asked, "sampled", range(number))
        synchronise(device)
    return {"seconds": time.perf_counter() - start, "peak_bytes": peak.bytes}


def _compensation(model: LlavaAccm, check: Check) -> dict:
    compensator, language_model = model.compensator, model.language_model
    args = CompensationArguments(batch_size=4, max_steps=STEPS)
    n, width = model.count_tokens(), model.tower.clip.config.projection_dim
    features = model.tower.clip.config.vision_config.hidden_size
    samples = [ShortQuestion(i, "", q, q.split("\n")[0], "red") for i, q in enumerate(questions(4))]
    looks = [
        Look(all=torch.randn(n, features), kept=torch.randn(KEPT, features), dropped=rows)
        for rows in torch.randn(len(samples), n - KEPT, width)
    ]
    objective = CompensationObjective(
        _trained(compensator.caption_model),
        _trained(compensator.selector),
        compensator.long_clip,
        language_model,
        compensator.tokenizer,
        args.candidates,
        args.margins,
        args.answer_batch_size,
    )
    batch = CompensationBatch(samples, looks, ["red"] * len(samples), list(range(len(samples))))
    return _steps(objective, batch, args, check)


def _trained(part: nn.Module) -> nn.Module:
    """Returns a copy in float32 that can be trained."""
    if isinstance(part, Selector):
        other = Selector(part.head.in_features, len(part.transformer_encoder.layers))
    else:
        prefix, layers = part.clip_project.prefix_const, part.clip_project.transformer.layers
        other = type(part)(
            type(part.gpt)(part.gpt.config),
            part.clip_project.linear.in_features,
            len(prefix),
            len(layers),
        )
    other.load_state_dict(part.state_dict())
    return other


def _steps(objective: nn.Module, batch: object, args: TrainArguments, check: Check) -> dict:
    """Returns the median time of a step and its peak memory, beyond the memory used before."""
    device = check.place.device
    args.device, args.output_dir = device.type, "unused"
    plan = make_plan(args, args.batch_size, processes=1)
    with PeakMemory(device) as peak:
        learner = Learner(objective, None, args, plan, [], Team(args.device))
        times = []
        for number in range(2 if check.rehearse else STEPS):
            synchronise(device)
            start = time.perf_counter()
            learner.step(number, [MicroBatch([0], number, batch)])
            synchronise(device)
            times.append(time.perf_counter() - start)
    found = {"seconds": sorted(times[1:])[len(times[1:]) // 2], "peak_bytes": peak.bytes}
    objective.zero_grad(set_to_none=True)
    return found
