"""Layers that replace others and store their matrix in another form.

A packed matrix is no parameter: nothing can train, move, copy or change it unnoticed.
``optimize_for_inference(model, "plain")`` restores the original layers.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from llava.errors import UserError
from llava.model.llava_arch import LlavaAccm
from llava.model.loading.tensor_files import give_back
from llava.model.products.forms import PLAIN, SMALL, Form, choose_forms, pack, packed_linear

_WAY_OUT = 'call optimize_for_inference(model, "plain") of llava.model.products before'
_PACKED = f"the weights are packed for this processor: {_WAY_OUT}"


class Formed(nn.Module):
    """A layer whose matrix has its own form.

    Attributes:
        form: of the matrix.
        smaller_side: of the matrix.
        packed: the matrix (out, in) where the form is packed, else None.

    Args:
        layer: the original; restore returns it, and until then it lacks its matrix.
        form: any but plain.
        is_tied: whether other modules hold the matrix too, and keep it.
    """

    matrix, bias_name = "weight", "bias"

    def __init__(self, layer: nn.Module, form: Form, is_tied: bool) -> None:
        super().__init__()
        self.train(layer.training)
        self.form = form
        self.packed: Any = None  # a tensor, or None
        self._layer = (layer,)  # a tuple keeps it from becoming a submodule
        weight = getattr(layer, self.matrix)
        self.smaller_side = min(weight.shape)
        self._is_trained = weight.requires_grad
        self.register_parameter(self.bias_name, getattr(layer, self.bias_name))
        if not form.is_packed:
            self.register_parameter(self.matrix, weight)
            return
        self.packed = pack(self._rows(weight.detach()).contiguous())
        if not is_tied:
            setattr(layer, self.matrix, None)
            give_back(weight)

    def restore(self) -> nn.Module:
        """Returns the original layer, with the current parameters."""
        (layer,) = self._layer
        setattr(layer, self.bias_name, getattr(self, self.bias_name))
        if self.packed is None:
            setattr(layer, self.matrix, getattr(self, self.matrix))
        elif getattr(layer, self.matrix) is None:
            setattr(layer, self.matrix, nn.Parameter(self._unpacked(), self._is_trained))
        return layer.train(self.training)

    @staticmethod
    def _rows(weight: Tensor) -> Tensor:
        """Converts a matrix from the layer's own layout to (out, in), or back."""
        return weight

    def _unpacked(self) -> Tensor:
        """Returns the matrix in the layer's own layout."""
        return self._rows(self.packed.to_dense())

    def _multiply(self, x: Tensor) -> Tensor:
        """Returns the product (..., out) of x (..., in)."""
        bias = getattr(self, self.bias_name)
        if self.packed is None:
            weight = self._rows(getattr(self, self.matrix))
            if x.dim() == 3 and x.shape[1] <= self.form.turned_rows:
                return _turned_product(x, weight, bias)
            return F.linear(x, weight, bias)
        is_trained = (
            self._is_trained or x.requires_grad or (bias is not None and bias.requires_grad)
        )
        if torch.is_grad_enabled() and is_trained:
            raise UserError(f"packed weights know no gradients: {_WAY_OUT} training")
        return packed_linear(x, self.packed, bias)

    # A packed matrix is hidden from code that handles parameters ----------------------------------

    def _refuse(self, what: str) -> None:
        if self.packed is not None:
            raise UserError(f"{_PACKED} {what}")

    def __getattr__(self, name: str) -> Any:
        if name == type(self).matrix and self.__dict__.get("packed") is not None:
            raise AttributeError(f"{_PACKED} reading them")
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: object) -> None:
        if name == self.matrix and self.__dict__.get("packed") is not None:
            self._refuse("changing them")
        super().__setattr__(name, value)

    def __getstate__(self) -> dict:
        self._refuse("copying or pickling them")
        return self.__dict__

    def _apply(self, *args: object, **kwargs: object) -> nn.Module:
        self._refuse("moving them or changing their dtype")
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        self._refuse("loading others")
        super()._load_from_state_dict(*args, **kwargs)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.packed is not None:  # a checkpoint is the same in every form
            destination[prefix + self.matrix] = self._unpacked().contiguous()


class FormedLinear(Formed):
    """Replaces nn.Linear."""

    def __init__(self, layer: nn.Linear, form: Form, is_tied: bool) -> None:
        super().__init__(layer, form, is_tied)
        self.in_features, self.out_features = layer.in_features, layer.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in) to (..., out)."""
        return self._multiply(x)


class FormedConv1D(Formed):
    """Replaces GPT-2's Conv1D, a linear layer whose matrix is (in, out)."""

    def __init__(self, layer: Conv1D, form: Form, is_tied: bool) -> None:
        super().__init__(layer, form, is_tied)
        self.nx, self.nf = layer.nx, layer.nf

    @staticmethod
    def _rows(weight: Tensor) -> Tensor:
        return weight.T

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in) to (..., out)."""
        return self._multiply(x)


class FormedAttention(Formed):
    """Replaces nn.MultiheadAttention of a sequence with itself.

    Queries, keys and values share one matrix, which nn.MultiheadAttention multiplies without a
    layer.
    """

    matrix, bias_name = "in_proj_weight", "in_proj_bias"
    batch_first = True
    _qkv_same_embed_dim = False  # keeps torch's TransformerEncoderLayer from reading the matrix

    def __init__(self, layer: nn.MultiheadAttention, form: Form, is_tied: bool) -> None:
        super().__init__(layer, form, is_tied)
        self.embed_dim, self.num_heads = layer.embed_dim, layer.num_heads
        self.out_proj = layer.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Returns the attention output (B, L, C) for x (B, L, C), and no weights, as torch's does.

        Raises:
            ValueError: an argument asks for what the models here do not use.
        """
        has_flags = attn_mask is not None and attn_mask.dtype == torch.bool
        if key is not query or value is not query or key_padding_mask is not None:
            raise ValueError(f"attends to its own sequence, without padding: {_WAY_OUT}")
        if need_weights or has_flags or (is_causal and attn_mask is None):
            raise ValueError(f"takes a mask of numbers and gives no weights: {_WAY_OUT}")
        projected = self._multiply(query).chunk(3, dim=-1)
        heads = [t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in projected]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=attn_mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def _turned_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns ``x @ weight.T + bias`` (B, L, out) of x (B, L, in), computed transposed."""
    columns = x.flatten(0, 1).T
    if bias is None:
        found = weight @ columns
    else:
        found = torch.addmm(bias.unsqueeze(1), weight, columns)
    return found.T.contiguous().unflatten(0, x.shape[:2])


_IN_THE_PLACE_OF = {
    nn.Linear: FormedLinear,
    NonDynamicallyQuantizableLinear: FormedLinear,  # the last layer of nn.MultiheadAttention
    Conv1D: FormedConv1D,
}


def substitute_for(layer: nn.Module) -> type[Formed] | None:
    """Returns the class that can replace a layer; None where there is none."""
    if type(layer) is not nn.MultiheadAttention:
        return _IN_THE_PLACE_OF.get(type(layer))
    is_usual = layer.batch_first and layer.bias_k is None and not layer.add_zero_attn
    has_one_matrix = layer.in_proj_weight is not None and layer.in_proj_bias is not None
    return FormedAttention if is_usual and has_one_matrix else None


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
        "tower": model.tower.body,
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
