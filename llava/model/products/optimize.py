"""A loaded model made ready to answer on a CPU."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from llava.model.llava_arch import LlavaAccm
from llava.model.products.forms import PLAIN, ROWS, SMALL, Form, choose_forms
from llava.model.products.layers import CpuAttention, CpuConv1D, CpuLinear, Product

_LAYERS = {
    nn.Linear: CpuLinear,
    NonDynamicallyQuantizableLinear: CpuLinear,  # what nn.MultiheadAttention ends with
    Conv1D: CpuConv1D,
    nn.MultiheadAttention: CpuAttention,
}


def optimize_for_inference(
    model: LlavaAccm, choice: str = "auto", compiled: bool = False
) -> LlavaAccm:
    """Brings the linear layers of all parts into the form that this processor reads fastest.

    What the model answers stays the same in float32, but for the last digits of its numbers. It
    can be called again with another choice: "plain" leaves everything as transformers has it.

    Args:
        model: loaded, and not trained any more. It is changed in place, layer by layer.
        choice: "auto" (the table of llava.model.products.forms), "plain" or "packed".
        compiled: whether the LLM is compiled.

    Returns:
        The model.

    Raises:
        UserError: see choose_forms.
    """
    device, dtype = model.tower.device, next(model.tower.parameters()).dtype
    forms = choose_forms(choice, device, dtype, compiled)
    for name, part in parts_of(model).items():
        set_form(part, forms[name], smallest=SMALL if choice == "auto" else 0)
    return model


def parts_of(model: LlavaAccm) -> dict[str, nn.Module]:
    """Returns the parts of forms.PARTS that a model has."""
    language_model, compensator = model.language_model, model.compensator
    parts = {
        "tower": model.tower.clip,
        "projector": language_model.projector,
        "llm": language_model.llm,
    }
    if compensator is not None:
        parts |= {
            "gpt2": compensator.caption_model.gpt,
            "mapper": compensator.caption_model.clip_project,
            "long_clip": compensator.long_clip.tower,
            "selector": compensator.selector,
        }
    return parts


def set_form(part: nn.Module, form: Form, smallest: int = 0) -> None:
    """Brings the linear layers of a module into a form; see optimize_for_inference.

    Args:
        part: its layers are exchanged for those of llava.model.products.layers.
        form: which.
        smallest: layers with a side below it are neither packed nor turned.
    """
    if form != PLAIN:
        _exchange_layers(part)
    for layer in part.modules():
        if isinstance(layer, Product):
            is_small = min(getattr(layer, layer.matrix).shape) < smallest
            small_form = PLAIN if form.layout != "rows" else ROWS
            layer.take(small_form if is_small else form)


def _exchange_layers(part: nn.Module) -> None:
    """Puts layers whose form can be chosen in the place of torch's and transformers'."""
    modules = dict(part.named_modules())
    holders = Counter(id(p) for m in modules.values() for p in m.parameters(recurse=False))
    for name, module in modules.items():
        if (kind := _LAYERS.get(type(module))) is None:
            continue
        new = kind.of(module).train(module.training)
        new.is_tied = holders[id(getattr(new, new.matrix))] > 1
        part.set_submodule(name, new)
