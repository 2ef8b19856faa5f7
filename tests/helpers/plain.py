"""The plain way, one sample and one pass, of what training computes in batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from llava.model.compensation.caption_model import CaptionModel
from llava.model.language_model.llava_llama import Prompt
from llava.model.prompt_ids import prompt_ids
from llava.train.packing import Packer


class IdPacker(Packer):
    """Takes answers as written ids, so that the LLM's own need not survive its tokenizer."""

    def answer_ids(self, answer):
        return [int(word) for word in answer.split()]


def prompt(language_model, reading) -> Prompt:
    """Returns what the LLM reads, as the pipeline makes it."""
    ids = prompt_ids(reading.question, language_model.tokenizer, caption=reading.caption)
    return Prompt(ids, *language_model.embed([ids], [reading.features]))


def caption_losses(
    model: CaptionModel, tokens: torch.Tensor, question: Sequence[int], caption: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the cross-entropies of a caption's tokens, and the likeliest tokens, without a batch.

    Args:
        model: the caption model.
        tokens: (N, C) dropped visual tokens.
        question: ids of the question.
        caption: ids of the caption.
    """
    prompt = model.embed_prompt(question, model.prefix(tokens[None])[0])
    embeds = torch.cat([prompt, model.gpt.transformer.wte(torch.tensor(caption[:-1]).long())])
    logits = model.gpt(inputs_embeds=embeds[None]).logits[0, -len(caption) :]
    return F.cross_entropy(logits, torch.tensor(caption), reduction="none"), logits.argmax(-1)
