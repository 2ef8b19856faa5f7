"""The LLM: transformers' own Llama, composed and never changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LlamaForCausalLM, LogitsProcessor

from llava.constants import IMAGE_TOKEN_INDEX
from llava.mm_utils import pad_left
from llava.model.language_model.llama_tokenizer import LlamaTokenizer


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        out_ids: new token ids, the end-of-text id included if it came.
        first_logits: (V,) float32 on the CPU, what the first token was chosen from.
    """

    out_ids: list[int]
    first_logits: Tensor


class LanguageModel(nn.Module):
    """Llama with LLaVA's projector and tokenizer.

    Args:
        llm: transformers' Llama.
        projector: tower features (..., C) to LLM embeddings (..., D).
        tokenizer: LLaVA's.
    """

    def __init__(
        self, llm: LlamaForCausalLM, projector: nn.Module, tokenizer: LlamaTokenizer
    ) -> None:
        super().__init__()
        self.llm = llm
        self.projector = projector
        self.tokenizer = tokenizer

    @property
    def context_length(self) -> int:
        """Positions that the LLM was trained for."""
        return self.llm.config.max_position_embeddings

    def embed(self, ids: list[int], image_features: Tensor) -> Tensor:
        """Embeddings of a prompt, the image's in the place of its placeholder.

        Args:
            ids: token ids with one IMAGE_TOKEN_INDEX.
            image_features: (K, C), from the tower, in the order in which the LLM reads them.

        Returns:
            (len(ids) - 1 + K, D).
        """
        place = ids.index(IMAGE_TOKEN_INDEX)
        projected = self.projector(image_features.to(next(self.projector.parameters()).dtype))
        table = self.llm.get_input_embeddings()
        text = table(torch.tensor(ids[:place] + ids[place + 1 :], device=projected.device))
        return torch.cat([text[:place], projected.to(text.device), text[place:]])

    def generate(self, inputs_embeds: list[Tensor], max_new_tokens: list[int]) -> list[Generated]:
        """Greedy answers, each as it would be alone.

        Args:
            inputs_embeds: B tensors (L_b, D).
            max_new_tokens: B limits.
        """
        embeds, mask = pad_left(inputs_embeds)
        end, fill = self.tokenizer.eos_token_id, self.tokenizer.unk_token_id
        # A fresh configuration: what checkpoints ship (sampling, a max_length) must not matter.
        config = GenerationConfig(
            max_new_tokens=max(max_new_tokens),
            do_sample=False,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=fill,
        )
        keeper = _FirstLogits()
        sequences = self.llm.generate(
            inputs_embeds=embeds,
            attention_mask=mask,
            generation_config=config,
            logits_processor=[keeper],
        )
        answers = [ids[:limit] for ids, limit in zip(sequences.tolist(), max_new_tokens)]
        return [
            Generated(ids[: ids.index(end) + 1] if end in ids else ids, logits)
            for ids, logits in zip(answers, keeper.logits)
        ]


class _FirstLogits(LogitsProcessor):
    """Changes nothing and keeps the logits (B, V) of the first step, on the CPU."""

    def __init__(self) -> None:
        self.logits: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.logits is None:
            self.logits = scores.float().cpu()
        return scores
