"""Linear layers in the form that a CPU reads fastest.

Each has the parameters, under the names, of the layer that it stands for; only where its matrix lies
in memory, and how it is read, are others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from llava.errors import UserError
from llava.model.products.forms import PLAIN, Form, pack, packed_linear
from llava.model.tensor_files import give_back


class Product(nn.Module):
    """A layer with one matrix whose form can be chosen.

    A packed matrix is a tensor without strides that no arithmetic of torch takes, so that nobody
    changes it unawares. Whoever saves, loads, copies or moves the layer finds it unpacked.

    Attributes:
        form: of the matrix.
        is_tied: whether other modules hold the matrix too. Then it is packed into a copy of its
            own, and they go on with the original.
    """

    matrix = "weight"
    form: Form = PLAIN
    is_tied: bool = False
    _original: tuple[nn.Parameter, ...] = ()  # in a tuple, nn.Module does not take it for its own

    def take(self, form: Form) -> None:
        """Brings the matrix into a form."""
        self.form = form
        weight = self._plain_parameter()
        if form.layout == "packed":
            self._original = (weight,) if self.is_tied else ()
            packed = pack(self._turned(weight.detach()).contiguous())
            give_back(weight)
            weight = nn.Parameter(packed, requires_grad=False)
        else:
            self._original = ()
            weight.data = self._laid_out(weight.data)
        setattr(self, self.matrix, weight)

    def _plain_parameter(self) -> nn.Parameter:
        """Returns the matrix with strides."""
        weight = getattr(self, self.matrix)
        if not weight.is_mkldnn:
            return weight
        if self._original:
            return self._original[0]
        return nn.Parameter(self._turned(weight.detach().to_dense()), requires_grad=False)

    @staticmethod
    def _turned(weight: Tensor) -> Tensor:
        """Returns the matrix as (out, in), or one of that shape as the layer keeps it."""
        return weight

    def _laid_out(self, weight: Tensor) -> Tensor:
        """Returns the matrix as its form has it in memory."""
        return weight

    def _multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the product (..., out) of x (..., in)."""
        weight = getattr(self, self.matrix)
        if not weight.is_mkldnn:
            weight = self._turned(weight)
            if x.dim() == 3 and x.shape[1] <= self.form.turned_rows:
                return _turned_product(x, weight, bias)
            return F.linear(x, weight, bias)
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            raise UserError(
                "packed weights know no gradients: load the model with cpu_products='plain', or "
                "unpack it with optimize_for_inference(model, 'plain'), before training"
            )
        return packed_linear(x, weight, bias)

    # For those who do not know of forms ----------------------------------------------------------

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + self.matrix] = self._plain_parameter().detach()

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        self.take(PLAIN)
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args: object, **kwargs: object) -> nn.Module:
        if getattr(self, self.matrix).is_mkldnn:
            self.take(PLAIN)
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict:
        """Returns what a copy, or a pickle, is made of."""
        parameters = self._parameters | {self.matrix: self._plain_parameter()}
        form = PLAIN if self.form.layout == "packed" else self.form
        return self.__dict__ | {"_parameters": parameters, "_original": (), "form": form}


class CpuLinear(Product, nn.Linear):
    """Stands for nn.Linear."""

    @classmethod
    def of(cls, layer: nn.Linear) -> CpuLinear:
        """Returns one with the parameters of a layer."""
        has_bias = layer.bias is not None
        new = cls(layer.in_features, layer.out_features, has_bias, device="meta")
        new.weight, new.bias = layer.weight, layer.bias
        return new

    def forward(self, x: Tensor) -> Tensor:
        return self._multiply(x, self.bias)


class CpuConv1D(Product, Conv1D):
    """Stands for GPT-2's Conv1D, a linear layer whose matrix is (in, out)."""

    @classmethod
    def of(cls, layer: Conv1D) -> CpuConv1D:
        """Returns one with the parameters of a layer."""
        with torch.device("meta"):
            new = cls(layer.nf, layer.nx)
        new.weight, new.bias = layer.weight, layer.bias
        return new

    @staticmethod
    def _turned(weight: Tensor) -> Tensor:
        return weight.T

    def _laid_out(self, weight: Tensor) -> Tensor:
        return weight.contiguous() if self.form.layout == "plain" else weight.T.contiguous().T

    def forward(self, x: Tensor) -> Tensor:
        return self._multiply(x, self.bias)


class CpuAttention(Product, nn.MultiheadAttention):
    """Stands for nn.MultiheadAttention of a sequence with itself, which reads its matrix (queries,
    keys and values in one) without the help of a layer."""

    matrix = "in_proj_weight"

    @classmethod
    def of(cls, layer: nn.MultiheadAttention) -> CpuAttention:
        """Returns one with the parameters of a layer."""
        new = cls(layer.embed_dim, layer.num_heads, batch_first=layer.batch_first, device="meta")
        new.in_proj_weight, new.in_proj_bias = layer.in_proj_weight, layer.in_proj_bias
        new.out_proj = layer.out_proj
        return new

    def take(self, form: Form) -> None:
        super().take(form)
        # What keeps torch's TransformerEncoderLayer from reading the matrices itself.
        self._qkv_same_embed_dim = form == PLAIN

    def forward(
        self, x: Tensor, *_: Tensor, attn_mask: Tensor | None = None, **__: object
    ) -> tuple[Tensor, None]:
        """Returns what (B, L, C) attends to (B, L, C), and no weights, as torch's does."""
        projected = self._multiply(x, self.in_proj_bias).chunk(3, dim=-1)
        heads = [t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in projected]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=attn_mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def _turned_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns ``x @ weight.T + bias`` (B, L, out) of x (B, L, in), computed the other way round."""
    columns = x.flatten(0, 1).T
    if bias is None:
        found = weight @ columns
    else:
        found = torch.addmm(bias.unsqueeze(1), weight, columns)
    return found.T.contiguous().unflatten(0, x.shape[:2])
