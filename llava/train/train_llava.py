"""LLaVA of the mini model: a Llama from nothing, its projector, then both on images.

The real model gets its LLaVA-1.5 ready-made. The mini one is made in LLaVA's order, with one stage
in front because there is no Vicuna of this size:

    language    the LLM alone learns to look answers up in descriptions of scenes
    projector   LLaVA's first stage: the LLM is frozen, images learn to be read by it
    instruct    LLaVA's second stage: both, on all kinds of questions

so that it reads pictures, captions, both or neither: also pruned images without a caption, and no
image at all, or else part of what pruning costs would be surprise, not lost information.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from llava.constants import IMAGE_TOKEN_INDEX
from llava.model.multimodal_projector.builder import build_vision_projector
from llava.train.packing import IGNORED, PackedBatch

LLM = dict(
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=2048,
    rope_theta=1e5,
    tie_word_embeddings=True,
)
INITIAL_STD = 0.08  # Llama's usual 0.02 stands still for minutes at this width


def mini_llm(vocab_size: int, bos: int, eos: int, seed: int) -> LlamaForCausalLM:
    """An untrained Llama of the mini model's shape.

    Its attention starts by looking for what is like itself (keys = queries) and copying it (output =
    transposed values): looking things up is all that it will do, and chance takes long to find that.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=vocab_size, bos_token_id=bos, eos_token_id=eos, **LLM)
    llm = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in llm.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, INITIAL_STD)
        for layer in llm.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)
    return llm


def mini_projector(vision_width: int, seed: int) -> nn.Sequential:
    """An untrained projector into the mini LLM."""
    torch.manual_seed(seed)
    return build_vision_projector("mlp2x_gelu", vision_width, LLM["hidden_size"])


class LlavaObjective(nn.Module):
    """The LLM answering packed questions.

    Args:
        llm: transformers' Llama.
        projector: tower features to LLM embeddings.
    """

    def __init__(self, llm: LlamaForCausalLM, projector: nn.Module) -> None:
        super().__init__()
        self.llm = llm
        self.projector = projector

    def forward(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Cross-entropy of the answers' tokens, summed, and how many are the likeliest one."""
        embeds = embed(self.llm, self.projector, batch)
        hidden = self.llm.model(
            inputs_embeds=embeds,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        asked = batch.labels != IGNORED
        logits = self.llm.lm_head(hidden[asked]).float()
        labels = batch.labels[asked]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        return {"loss": loss, "accuracy": (logits.argmax(-1) == labels).sum().float()}


def embed(llm: LlamaForCausalLM, projector: nn.Module, batch: PackedBatch) -> Tensor:
    """(B, L, D): words from the table, visual tokens through the projector."""
    visual = batch.ids == IMAGE_TOKEN_INDEX
    embeds = llm.get_input_embeddings()(batch.ids.masked_fill(visual, 0))
    projected = projector(batch.features.to(embeds.dtype))
    return embeds.masked_scatter(visual.unsqueeze(-1), projected.to(embeds.dtype))
