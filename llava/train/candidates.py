"""Candidate captions of a batch, for the training of selector and caption model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2Tokenizer

from llava.mm_utils import pad_left
from llava.model.compensation.beam_search import beam_search, greedy_search, sample_search
from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.caption_writer import (
    MAX_CAPTION_LENGTH,
    NUM_CANDIDATES,
    STOP_TEXT,
    decode_caption,
)
from llava.train.batches import stream_seed

NUCLEUS = 0.9
TOP_K = 10


@dataclass(frozen=True)
class Candidates:
    """The candidates of one sample.

    Attributes:
        ids: GPT-2 ids of each, the stop token included.
        captions: their texts.
    """

    ids: list[list[int]]
    captions: list[str]


@torch.no_grad()
def write_candidates(
    model: CaptionModel,
    tokenizer: GPT2Tokenizer,
    dropped: Sequence[Tensor],
    questions: Sequence[str],
    kind: str,
    seeds: Sequence[int],
) -> list[Candidates]:
    """Generates NUM_CANDIDATES captions for each sample.

    Args:
        model: caption model; put into eval mode for this.
        tokenizer: GPT-2's.
        dropped: B tensors (M_b, P).
        questions: B questions.
        kind: of KINDS in stages/arguments.py.
        seeds: B seeds; a sample's captions depend on no other sample.
    """
    training = model.training
    model.eval()
    tokens, mask = pad_left(list(dropped))
    prefixes = model.prefix(tokens, None if mask.all() else mask)
    prompts = [
        model.embed_prompt(tokenizer.encode(question, add_special_tokens=False), prefix)
        for question, prefix in zip(questions, prefixes)
    ]
    inputs = (model.gpt, *pad_left(prompts), tokenizer.encode(STOP_TEXT)[0])
    if kind == "beam":
        found = beam_search(*inputs, beam_size=NUM_CANDIDATES, max_length=MAX_CAPTION_LENGTH)
        ids = [beams.ids for beams in found]
    else:
        ids = list(map(list, zip(*_sampled(inputs, seeds))))
    model.train(training)
    return [Candidates(row, [decode_caption(tokenizer, text) for text in row]) for row in ids]


def _sampled(inputs: tuple, seeds: Sequence[int]) -> list[list[list[int]]]:
    """Generates nucleus, top-k and greedy texts for all samples."""

    def generators(name: str) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(stream_seed(seed, name)) for seed in seeds]

    gpt, embeds, mask, stop_id = inputs
    length, nucleus, top_k = MAX_CAPTION_LENGTH, generators("nucleus"), generators("top-k")
    return [
        sample_search(gpt, embeds, mask, stop_id, nucleus, max_length=length, top_p=NUCLEUS),
        sample_search(gpt, embeds, mask, stop_id, top_k, max_length=length, top_k=TOP_K),
        greedy_search(gpt, embeds, mask, stop_id, max_length=length),
    ]
