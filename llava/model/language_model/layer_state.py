"""The values that pruners inside the LLM read before a layer, from transformers' own layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv


@dataclass(frozen=True)
class LayerRow:
    """The part of one sequence that a layer reads: its image, and then its text.

    Attributes:
        hidden: (L, D).
        position_ids: (L,), or (3, L) with M-RoPE.
        key_bias: (L,); see LayerInput. None adds nothing.
    """

    hidden: Tensor
    position_ids: Tensor
    key_bias: Tensor | None = None

    def with_visual(self, kept: Tensor, merged: Tensor, num_visual: int) -> LayerRow:
        """Returns the row with some of its visual tokens, merged ones after them, and its text.

        Args:
            kept: (K,) int64 on the CPU, rising.
            merged: (G, D); they get the position of the last visual token.
            num_visual: n.
        """
        text = torch.arange(num_visual, len(self.hidden))
        taken = torch.cat([kept, torch.full((len(merged),), num_visual - 1), text])
        hidden = self.hidden[taken]
        hidden[len(kept) : len(kept) + len(merged)] = merged
        bias = None if self.key_bias is None else self.key_bias[taken]
        return LayerRow(hidden, self.position_ids[..., taken], bias)


@dataclass(frozen=True)
class RowReader:
    """Computes what LayerState.read names, for one sequence and one layer.

    Attributes:
        llm: transformers' Llama.
        layer: the layer's number, from 1.
        row: the input of this layer.
        before: the input of the layer before.
        embeds: (N + T, D), the piece as the first layer read it.
        num_text: T, text tokens after the image.
        old_keys: (h, S, d), the keys of the layer before in the cache.
        system_keys: (h, P, d), this layer's keys of the positions before the piece.
    """

    llm: LlamaForCausalLM
    layer: int
    row: LayerRow
    before: LayerRow
    embeds: Tensor
    num_text: int
    old_keys: Tensor
    system_keys: Tensor

    def __call__(self, name: str) -> Tensor:
        """Returns a tensor of a batch of 1, float32; see LayerState.read."""
        found = {
            "attention": self._attention,
            "keys": lambda: _side_by_side(self.old_keys),
            "next_query": lambda: _side_by_side(self._rotated(self.row, self.layer, 1)[0]),
            "next_keys": self._next_keys,
            "hidden": lambda: self._after_system(self.row.hidden),
            "normed": lambda: self._after_system(self.llm.model.norm(self.row.hidden)),
            "image": lambda: self.embeds[: -self.num_text],
            "text": lambda: self.embeds[-self.num_text :],
        }
        return found[name]()[None].float()

    def _attention(self) -> Tensor:
        """Returns the attention (H, T, S) of the text tokens in the layer before."""
        queries, _ = self._rotated(self.before, self.layer - 1, self.num_text)
        keys = self._repeated(self.old_keys)
        logits = (queries @ keys.mT).float() / queries.shape[-1] ** 0.5
        length = keys.shape[1]
        if self.before.key_bias is not None:
            logits[..., length - len(self.before.key_bias) :] += self.before.key_bias.float()
        place = torch.arange(length, device=logits.device)
        is_later = place > place[length - self.num_text :, None]
        return logits.masked_fill(is_later, -torch.inf).softmax(-1)

    def _next_keys(self) -> Tensor:
        """Returns this layer's keys (S, D), with the cached ones first."""
        _, keys = self._rotated(self.row, self.layer, len(self.row.hidden))
        system = self._repeated(self.system_keys)
        return _side_by_side(torch.cat([system, self._repeated(keys)], dim=1))

    def _rotated(self, row: LayerRow, layer: int, count: int) -> tuple[Tensor, Tensor]:
        """Returns queries (H, count, d) and keys (h, count, d) of a row's last positions."""
        module = self.llm.model.layers[layer]
        hidden, positions = (
            row.hidden[None, -count:],
            row.position_ids[..., None, -count:].to(row.hidden.device),
        )
        normed = module.input_layernorm(hidden)
        width = self.old_keys.shape[-1]
        projections = module.self_attn.q_proj, module.self_attn.k_proj
        queries, keys = (p(normed).unflatten(-1, (-1, width)).transpose(1, 2) for p in projections)
        rotary = self.llm.model.rotary_emb
        cos, sin = getattr(rotary, "stock", rotary)(hidden, positions)
        queries, keys = apply_rotary_pos_emb(queries, keys, cos, sin)
        return queries[0], keys[0]

    def _repeated(self, keys: Tensor) -> Tensor:
        """Returns keys (H, L, d), one for each query head, from (h, L, d)."""
        times = self.llm.config.num_attention_heads // len(keys)
        return repeat_kv(keys[None], times)[0]

    def _after_system(self, states: Tensor) -> Tensor:
        """Returns a piece's states (L, D) as (S, D), with zeros for the positions before it."""
        return torch.cat([states.new_zeros(self.system_keys.shape[1], states.shape[1]), states])


def _side_by_side(heads: Tensor) -> Tensor:
    """Returns heads (H, L, d) side by side, (L, H d)."""
    return heads.transpose(0, 1).flatten(1)
