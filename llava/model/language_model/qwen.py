"""The LLM of Qwen2.5-VL as a causal LM: transformers' own text model, composed with its head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLPreTrainedModel,
    Qwen2_5_VLTextModel,
)

from llava.model.multimodal_encoder.visual_tokens import View


class QwenCausalLM(Qwen2_5_VLPreTrainedModel, GenerationMixin):
    """Reads embeddings at positions of M-RoPE; its parts have the names of Llama's.

    Args:
        config: transformers' configuration of the text model.
    """

    config: Qwen2_5_VLTextConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: Qwen2_5_VLTextConfig) -> None:
        super().__init__(config)
        self.model = Qwen2_5_VLTextModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **settings: Any,
    ) -> CausalLMOutputWithPast:
        """Returns the logits of the last positions, all of them for 0; as transformers' LMs."""
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **settings,
        )
        logits = self.lm_head(out.last_hidden_state[:, -logits_to_keep:])
        return CausalLMOutputWithPast(logits=logits, past_key_values=out.past_key_values)


def mrope_positions(before: int, view: View, kept_idx: Tensor, after: int) -> Tensor:
    """Returns the positions of a prompt in M-RoPE: of frame, row and column.

    A kept token has the position that it has in the unpruned prompt, and the text after the image
    continues behind the unpruned image, as ``get_rope_index`` of transformers places them. If none
    is kept, positions count as without an image: not even its size is seen.

    Args:
        before: the number of text tokens before the image.
        view: the grid of all its tokens.
        kept_idx: (K,) int64, those that the LLM reads.
        after: the number of text tokens after it.

    Returns:
        (3, before + K + after) int64.
    """
    rows, columns = kept_idx // view.columns, kept_idx % view.columns
    image = before + torch.stack([torch.zeros_like(rows), rows, columns])
    behind = before + (max(view.rows, view.columns) if len(kept_idx) else 0)
    text = torch.cat([torch.arange(before), behind + torch.arange(after)]).expand(3, -1)
    return torch.cat([text[:, :before], image, text[:, before:]], dim=1)
