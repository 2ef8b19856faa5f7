"""Llama's layers with fewer kernels for a GPU, where a step of decoding has hundreds of them.

The modules compute what transformers' compute and share their parameters, under the same names. In
half precision they round less often.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Cache, LlamaForCausalLM
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)


class FusedRMSNorm(nn.Module):
    """LlamaRMSNorm in one kernel instead of eight.

    Args:
        norm: the norm whose weight it shares.
    """

    def __init__(self, norm: LlamaRMSNorm) -> None:
        super().__init__()
        self.weight = norm.weight
        self._eps = norm.variance_epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalises (..., D) by its root mean square."""
        return F.rms_norm(hidden, self.weight.shape, self.weight, self._eps)


class FusedRotaryEmbedding(nn.Module):
    """LlamaRotaryEmbedding for FusedAttention.

    Args:
        rotary: transformers' module, which computes the angles.
    """

    def __init__(self, rotary: LlamaRotaryEmbedding) -> None:
        super().__init__()
        self.inv_freq = rotary.inv_freq
        self._ask = (rotary,)  # not a submodule, so that the names of buffers stay

    @property
    def stock(self) -> LlamaRotaryEmbedding:
        """Transformers' module, which computes the angles."""
        return self._ask[0]

    def forward(self, hidden: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cosines and sines (B, L, 1, d), the first half of the sines negative."""
        cos, sin = self._ask[0](hidden, position_ids)
        first, second = sin.chunk(2, dim=-1)
        return cos.unsqueeze(2), torch.cat([-first, second], dim=-1).unsqueeze(2)


class FusedAttention(nn.Module):
    """LlamaAttention with one product for queries, keys and values.

    Args:
        attention: its matrices become parts of one.
    """

    def __init__(self, attention: LlamaAttention) -> None:
        super().__init__()
        self.q_proj, self.k_proj = attention.q_proj, attention.k_proj
        self.v_proj, self.o_proj = attention.v_proj, attention.o_proj
        self._weight = joined(self.q_proj, self.k_proj, self.v_proj)
        self._width = attention.head_dim
        self._heads = [
            layer.out_features // self._width for layer in (self.q_proj, self.k_proj, self.v_proj)
        ]
        self._scale = attention.scaling
        self._layer = attention.layer_idx

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **_: object,
    ) -> tuple[Tensor, None]:
        """Attends from (B, L, D) to itself and to the cache; returns (B, L, D)."""
        cos, sin = position_embeddings
        heads = F.linear(hidden_states, self._weight).unflatten(-1, (-1, self._width))
        turned, values = heads.split([sum(self._heads[:2]), self._heads[2]], dim=2)
        # transformers: x * cos + [-x2, x1] * sin; the sign is the sine's here.
        turned = torch.addcmul(turned * cos, turned.roll(self._width // 2, dims=-1), sin)
        queries, keys = turned.transpose(1, 2).split(self._heads[:2], dim=1)
        values = values.transpose(1, 2)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self._layer)
        attended = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=attention_mask,
            is_causal=attention_mask is None and queries.shape[2] > 1,
            scale=self._scale,
            enable_gqa=keys.shape[1] != queries.shape[1],
        )
        return self.o_proj(attended.transpose(1, 2).flatten(2)), None


class FusedMLP(nn.Module):
    """LlamaMLP with one product for gate and values.

    Args:
        mlp: its matrices become parts of one.
    """

    def __init__(self, mlp: LlamaMLP) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.act_fn = mlp.act_fn
        self._weight = joined(self.gate_proj, self.up_proj)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (..., D) to (..., D)."""
        gate, up = F.linear(hidden, self._weight).chunk(2, dim=-1)
        return self.down_proj(self.act_fn(gate) * up)


def fuse_llama(llm: LlamaForCausalLM) -> None:
    """Replaces norms, attention and MLP of an LLM, in place; its parameters and names stay."""
    kinds = {
        LlamaRMSNorm: FusedRMSNorm,
        LlamaRotaryEmbedding: FusedRotaryEmbedding,
        LlamaAttention: FusedAttention,
        LlamaMLP: FusedMLP,
    }
    for name, module in list(llm.named_modules()):
        if type(module) in kinds and not any("bias" in n for n, _ in module.named_parameters()):
            llm.set_submodule(name, kinds[type(module)](module))


def unfused(stock: nn.Module, own: nn.Module) -> nn.Module:
    """Returns transformers' module instead of a fused one; any other module is returned as it is.

    Args:
        stock: transformers' module; receives the weight.
        own: a module without submodules.
    """
    if isinstance(own, FusedRMSNorm):
        stock.weight = own.weight
    return stock if isinstance(own, (FusedRMSNorm, FusedRotaryEmbedding)) else own


def joined(*layers: nn.Linear) -> Tensor:
    """Returns the weights of layers as one matrix (outputs, D), of which they become parts."""
    weight = torch.cat([layer.weight.data for layer in layers])
    for layer, part in zip(layers, weight.split([layer.out_features for layer in layers])):
        layer.weight.data = part
    return weight
