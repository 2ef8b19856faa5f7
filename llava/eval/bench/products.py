"""Timed matrix products of a model's shapes in every form.

The results are for the table of ``llava.model.products.forms``; a run never measures.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm
from transformers.pytorch_utils import Conv1D

from llava.eval.bench.shapes import compensator_of
from llava.model.llava_arch import LlavaAccm
from llava.model.products.forms import PACKED, PLAIN, Form, can_pack, processor
from llava.model.products.layers import optimize_for_inference, set_form

_TURNED = Form(turned_rows=1 << 10)  # turned for all measured rows
# Matrices of one shape are read in turn, so that they come from memory, as in a model.
_READ_IN_TURN = 1 << 28  # bytes
_MOST_LAYERS = 16
_WORTH_A_CHANGE = 1.05
_SHORTEST = 0.02  # seconds of work for each timing


@dataclass(frozen=True)
class Work:
    """Matrix products that are computed together.

    Attributes:
        part: one of forms.PARTS.
        what: a description.
        module: the module with the layers.
        rows: rows of one sample that each layer reads.
    """

    part: str
    what: str
    module: nn.Module
    rows: int


def _works(model: LlavaAccm) -> list[Work]:
    """Returns the works for one question, with the rows of LLaVA-1.5."""
    llm, compensator = model.language_model.llm, compensator_of(model)
    gpt, mapper = compensator.caption_model.gpt, compensator.caption_model.clip_project
    return [
        Work("tower", "patches", model.tower.clip.vision_model, 577),
        Work("projector", "patches", model.language_model.projector, 36),
        Work("llm", "step", llm, 1),
        Work("llm", "pruned prompt", llm.model, 104),
        Work("llm", "full prompt", llm.model, 616),
        Work("gpt2", "step of 3 beams", gpt, 3),
        Work("gpt2", "prompt", gpt.transformer, 40),
        Work("mapper", "patches", mapper, 560),
        Work("long_clip", "candidates", compensator.long_clip.tower, 64),
        Work("selector", "candidates", compensator.selector, 3),
    ]


@torch.inference_mode()
def measure_products(model: LlavaAccm, chosen: Mapping[str, Form], rounds: int) -> str:
    """Returns a Markdown table of milliseconds in every form, and what this machine would change.

    Args:
        model: defines shapes and dtype; its products are plain afterwards.
        chosen: the present forms.
        rounds: number of timings of each product; medians count.
    """
    optimize_for_inference(model, "plain")
    dtype = next(model.tower.parameters()).dtype
    forms = {"plain": PLAIN, "turned": _TURNED} | ({"packed": PACKED} if can_pack(dtype) else {})
    lines, advice = [], []
    for work in tqdm(_works(model), "products", unit="row"):
        times = _times(work, list(forms.values()), dtype, rounds)
        found = dict(zip(forms, times))
        now, best = _name(chosen[work.part], work.rows), min(found, key=found.__getitem__)
        cells = [f"{1000 * seconds:,.2f}" for seconds in times]
        lines.append(f"| {work.part}, {work.what} | {work.rows} | {' | '.join(cells)} | {now} |")
        if found[now] > _WORTH_A_CHANGE * found[best]:
            gain = f"{found[now] / found[best]:.2f} x"
            advice.append(f"{work.part}, {work.what}: {now} -> {best} ({gain})")
    name = str(dtype).removeprefix("torch.")
    return "\n".join(
        [
            f"{processor()}, {name}, {torch.get_num_threads()} threads; ms of all layers together",
            "",
            "| part | rows | " + " | ".join(forms) + " | chosen |",
            "| --- |" + " ---: |" * (1 + len(forms)) + " --- |",
            *lines,
            "",
            "This machine would change: " + ("; ".join(advice) if advice else "nothing") + ".",
        ]
    )


def _name(form: Form, rows: int) -> str:
    """Returns the name of a form's product for a number of rows."""
    if form.is_packed:
        return "packed"
    return "turned" if rows <= form.turned_rows else "plain"


def _times(work: Work, forms: Sequence[Form], dtype: torch.dtype, rounds: int) -> list[float]:
    """Returns the seconds of all products of a work in each form."""
    totals = [0.0] * len(forms)
    for (inputs, outputs), number in _shapes(work.module).items():
        found = _product_times(inputs, outputs, work.rows, forms, dtype, rounds)
        totals = [total + number * seconds for total, seconds in zip(totals, found)]
    return totals


def _shapes(module: nn.Module) -> Counter[tuple[int, int]]:
    """Counts the layers of a module by their inputs and outputs."""
    found: Counter[tuple[int, int]] = Counter()
    for layer in module.modules():
        if isinstance(layer, nn.MultiheadAttention):
            found[layer.embed_dim, 3 * layer.embed_dim] += 1
        elif isinstance(layer, Conv1D):
            found[layer.nx, layer.nf] += 1
        elif isinstance(layer, nn.Linear):
            found[layer.in_features, layer.out_features] += 1
    return found


def _product_times(
    inputs: int,
    outputs: int,
    rows: int,
    forms: Sequence[Form],
    dtype: torch.dtype,
    rounds: int,
) -> list[float]:
    """Returns the seconds of one product in each form, taken in turn."""
    number = max(1, min(_MOST_LAYERS, _READ_IN_TURN // (inputs * outputs * dtype.itemsize)))
    works = []
    for form in forms:
        layers = nn.ModuleList(nn.Linear(inputs, outputs, dtype=dtype) for _ in range(number))
        set_form(layers, form)
        works.append(layers)
    x = torch.randn(1, rows, inputs).to(dtype)
    repeats = [max(1, round(_SHORTEST / _seconds(layers, x, 1))) for layers in works]
    found: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for layers, repeat, times in zip(works, repeats, found):
            times.append(_seconds(layers, x, repeat) / number)
    return [statistics.median(times) for times in found]


def _seconds(layers: nn.ModuleList, x: torch.Tensor, repeat: int) -> float:
    """Returns the seconds of one pass through all layers, each of which reads x."""
    start = time.perf_counter()
    for _ in range(repeat):
        for layer in layers:
            layer(x)
    return (time.perf_counter() - start) / repeat
