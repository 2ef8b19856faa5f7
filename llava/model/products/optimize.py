"""Prepares a loaded model for inference on a CPU."""

from __future__ import annotations

from collections import Counter

from torch import nn

from llava.model.llava_arch import LlavaAccm
from llava.model.products.forms import PLAIN, SMALL, Form, choose_forms
from llava.model.products.layers import Formed, substitute_for


def optimize_for_inference(
    model: LlavaAccm, choice: str = "auto", compiled: bool = False
) -> LlavaAccm:
    """Converts the linear layers of all parts to the form that this processor reads fastest.

    The model's answers stay the same in float32, except for the last digits of its numbers. It can
    be called again with another choice; "plain" restores all layers, for training the model,
    changing its weights, moving or copying it.

    Args:
        model: a loaded one. It is changed in place, layer by layer, and holds no weight twice.
        choice: "auto" (the table of llava.model.products.forms), "plain" or "packed".
        compiled: whether the LLM is compiled.

    Returns:
        The model.

    Raises:
        UserError: see choose_forms.
    """
    weight = next(model.tower.parameters())
    forms = choose_forms(choice, weight.device, weight.dtype, compiled)
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
        parts |= compensator.parts()
    return parts


def set_form(part: nn.Module, form: Form, smallest: int = 0) -> None:
    """Converts the linear layers of a module to a form; see optimize_for_inference.

    Args:
        part: its layers are replaced by those of llava.model.products.layers, or restored.
        form: the form.
        smallest: layers with a side below it stay plain.
    """
    modules = dict(part.named_modules())
    holders = Counter(id(p) for m in modules.values() for p in m.parameters(recurse=False))
    for name, module in modules.items():
        if isinstance(module, Formed):
            if module.form == form and module.smaller_side >= smallest:
                continue
            module = module.restore()
            part.set_submodule(name, module)
        kind = substitute_for(module)
        if kind is None or form == PLAIN:
            continue
        weight = getattr(module, kind.matrix)
        if min(weight.shape) >= smallest and weight.device.type == "cpu":
            part.set_submodule(name, kind(module, form, is_tied=holders[id(weight)] > 1))
