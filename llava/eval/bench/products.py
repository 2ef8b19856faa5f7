"""Matrix products of a model's shapes in every form, against the clock.

What comes of it is for the table of ``llava.model.products.forms``; a run never measures.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers.pytorch_utils import Conv1D

from llava.model.llava_arch import LlavaAccm
from llava.model.products.forms import PACKED, PLAIN, ROWS, Form, can_pack, choose_forms, processor
from llava.model.products.optimize import parts_of, set_form

TURNED = 1 << 10  # rows: all that are measured
# Matrices of one shape that are read in turn, so that they come from memory as in a model.
_READ_IN_TURN = 1 << 28  # bytes
_MOST_LAYERS = 16
_WORTH_A_CHANGE = 1.05
_SHORTEST = 0.02  # seconds that a time is taken over

# Rows of one sample that each part reads at a time: 24 layers of 577 patches, a prompt of about
# 100 tokens and then one at a time, 3 candidates, ...
_ROWS = {
    "tower": (577,),
    "projector": (36,),
    "llm": (1, 104, 616),
    "gpt2": (3, 40),
    "mapper": (560,),
    "long_clip": (64,),
    "selector": (3,),
}


@dataclass(frozen=True)
class Shape:
    """A kind of layer.

    Attributes:
        kind: nn.Linear or Conv1D.
        inputs, outputs: its sides.
    """

    kind: type
    inputs: int
    outputs: int


@torch.inference_mode()
def measure_products(model: LlavaAccm, choice: str, rounds: int) -> int:
    """Prints the milliseconds that the products of each part take in every form, and what this
    machine would change.

    Args:
        model: gives the shapes, the dtype and the device; it is not used otherwise.
        choice: see choose_forms; what the forms are compared with.
        rounds: times that each is timed; medians count.
    """
    weight = next(model.tower.parameters())
    chosen = choose_forms(choice, weight.device, weight.dtype)
    candidates = {"plain": PLAIN, "rows": ROWS, "turned": Form("rows", TURNED)}
    if can_pack(weight.dtype):
        candidates["packed"] = PACKED
    todo = [
        (part, rows, shapes)
        for part, shapes in _shapes(model).items()
        for rows in _ROWS[part]
        if shapes
    ]
    lines, advice = [], []
    for part, rows, shapes in tqdm(todo, "products", unit="part"):
        forms = dict(candidates)
        if not any(shape.kind is Conv1D for shape in shapes):
            forms.pop("rows")  # they lie so in any case
        times = dict.fromkeys(forms, 0.0)
        for shape, number in shapes.items():
            found = _times(shape, rows, forms.values(), weight.dtype, rounds)
            for name, seconds in zip(forms, found):
                times[name] += 1000 * number * seconds
        now = _name(chosen[part], rows)
        now = now if now in times else "plain"
        best = min(times, key=times.get)
        cells = [f"{times[name]:,.2f}" if name in times else "" for name in candidates]
        lines.append(f"| {part} | {rows} | {' | '.join(cells)} | {now} | {best} |")
        if times[now] > _WORTH_A_CHANGE * times[best]:
            advice.append(
                f"{part}, {rows} rows: {now} -> {best} ({times[now] / times[best]:.2f} x)"
            )
    dtype = str(weight.dtype).removeprefix("torch.")
    print(
        f"{processor()}, {dtype}, {torch.get_num_threads()} threads; ms of all layers of a part\n"
    )
    print("| part | rows | " + " | ".join(candidates) + " | chosen | fastest |")
    print("| --- |" + " ---: |" * (1 + len(candidates)) + " --- | --- |")
    print("\n".join(lines))
    print("\nThis machine would change: " + ("; ".join(advice) if advice else "nothing") + ".")
    return 0


def _name(form: Form, rows: int) -> str:
    """Returns the name, among the candidates, of what a form does with so many rows."""
    return "turned" if rows <= form.turned_rows else form.layout


def _shapes(model: LlavaAccm) -> dict[str, Counter[Shape]]:
    """Counts the layers of each part by their shapes."""
    return {name: Counter(map(_shape, _layers(part))) for name, part in parts_of(model).items()}


def _layers(part: nn.Module) -> list[nn.Module]:
    kinds = (nn.Linear, Conv1D, nn.MultiheadAttention)
    return [module for module in part.modules() if isinstance(module, kinds)]


def _shape(layer: nn.Module) -> Shape:
    if isinstance(layer, nn.MultiheadAttention):
        return Shape(nn.Linear, layer.embed_dim, 3 * layer.embed_dim)
    if isinstance(layer, Conv1D):
        return Shape(Conv1D, layer.nx, layer.nf)
    return Shape(nn.Linear, layer.in_features, layer.out_features)


def _times(
    shape: Shape, rows: int, forms: Sequence[Form], dtype: torch.dtype, rounds: int
) -> list[float]:
    """Returns the seconds of one product in each form, taken in turn."""
    size = shape.inputs * shape.outputs * dtype.itemsize
    number = max(1, min(_MOST_LAYERS, _READ_IN_TURN // size))
    weights = [torch.randn(shape.outputs, shape.inputs).mul_(0.02).to(dtype) for _ in range(number)]
    works = []
    for form in forms:
        layers = nn.ModuleList(_layer(shape, weight) for weight in weights)
        set_form(layers, form)
        works.append(layers)
    x = torch.randn(1, rows, shape.inputs).to(dtype)
    repeats = [max(1, round(_SHORTEST / _seconds(layers, x, 1))) for layers in works]
    found: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for layers, repeat, times in zip(works, repeats, found):
            times.append(_seconds(layers, x, repeat) / number)
    return [statistics.median(times) for times in found]


def _layer(shape: Shape, weight: Tensor) -> nn.Module:
    """Returns a layer with a weight (out, in)."""
    with torch.device("meta"):
        args = (shape.outputs, shape.inputs)
        layer = Conv1D(*args) if shape.kind is Conv1D else nn.Linear(*reversed(args))
    own = weight.T.contiguous() if shape.kind is Conv1D else weight.clone()
    layer.weight = nn.Parameter(own)
    layer.bias = nn.Parameter(weight.new_zeros(shape.outputs))
    return layer.requires_grad_(False)


def _seconds(layers: nn.ModuleList, x: Tensor, repeat: int) -> float:
    """Returns the seconds of one pass through all layers, each of which reads x."""
    start = time.perf_counter()
    for _ in range(repeat):
        for layer in layers:
            layer(x)
    return (time.perf_counter() - start) / repeat
