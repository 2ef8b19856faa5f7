"""The LLM layer by layer, on transformers' own layers: for pruners that drop tokens inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import Cache, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast


@dataclass(frozen=True)
class LayerInput:
    """The input of a layer for B sequences; M counts the columns of keys, the new ones included.

    Attributes:
        hidden: (B, L, D).
        position_ids: (B, L), or (3, B, L) with M-RoPE, by which keys are rotated; a token keeps
            its own when others are dropped.
        mask: (B, 1, L, M) bool, True where a position may attend.
        key_bias: (B, M) float, added to the attention logits of every query to a column of keys,
            before the softmax; None adds nothing.
    """

    hidden: Tensor
    position_ids: Tensor
    mask: Tensor
    key_bias: Tensor | None = None

    @property
    def attention_mask(self) -> Tensor:
        """The mask for a layer, or (B, 1, L, M) in the states' dtype with the bias."""
        if self.key_bias is None:
            return self.mask
        bias = self.key_bias.to(self.hidden.dtype)[:, None, None]
        return bias.expand(self.mask.shape).masked_fill(~self.mask, -torch.inf)


BeforeLayer = Callable[[int, LayerInput], LayerInput]


class LayerwiseLlama:
    """Llama's forward pass with a hook before each layer; without one, transformers' own result.

    It is called as transformers' causal LM, so DecodeSession takes either.

    Args:
        llm: transformers' Llama.
        before_layer: receives each layer's number and input, and returns the input to use instead;
            None changes nothing.
    """

    def __init__(self, llm: LlamaForCausalLM, before_layer: BeforeLayer | None = None) -> None:
        self._llm = llm
        self._before_layer = before_layer or (lambda number, state: state)

    def __call__(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 1,
        key_bias: Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """Reads a piece of B sequences.

        Args:
            inputs_embeds: (B, L, D).
            attention_mask: (B, 1, L, M) bool; see LayerInput.
            position_ids: (B, L), or (3, B, L) with M-RoPE.
            past_key_values: the cache; each layer adds its keys and values.
            use_cache: whether the cache is used.
            logits_to_keep: number of last positions whose logits are returned.
            key_bias: see LayerInput.

        Returns:
            An output with the logits (B, logits_to_keep, V).
        """
        model = self._llm.model
        state = LayerInput(inputs_embeds, position_ids, attention_mask, key_bias)
        for number, layer in enumerate(model.layers):
            state = self._before_layer(number, state)
            hidden = layer(
                state.hidden,
                attention_mask=state.attention_mask,
                position_ids=state.position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                position_embeddings=model.rotary_emb(state.hidden, state.position_ids),
            )
            state = replace(state, hidden=hidden)
        logits = self._llm.lm_head(model.norm(state.hidden[:, -logits_to_keep:]))
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)
