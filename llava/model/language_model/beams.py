"""Beam search for one answer: transformers' own, so that its results are the same as there.

The captions' beam search (llava.model.compensation.beam_search) is ClipCap's, by another rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from llava.mm_utils import send
from llava.model.language_model.prompts import Generated, generated


def search_beams(
    llm: PreTrainedModel,
    embeds: Tensor,
    num_beams: int,
    max_new_tokens: int,
    end_id: int | Sequence[int],
    on_token: Callable[[int], object] | None,
    position_ids: Tensor | None = None,
) -> Generated:
    """Searches for the answer whose tokens have the highest mean log-probability.

    Args:
        llm: transformers' causal LM.
        embeds: (L, D), the prompt's. It is read alone, so that no other prompt has an effect.
        num_beams: number of beams kept at each step.
        max_new_tokens: limit of the answer.
        end_id: ends an answer, or several that do.
        on_token: receives the answer's tokens.
        position_ids: (3, L), positions of M-RoPE; None where they count 0, 1, 2.
    """
    end_ids = [end_id] if isinstance(end_id, int) else list(end_id)
    config = GenerationConfig(
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        eos_token_id=end_ids,
        pad_token_id=0,
        length_penalty=1.0,
        early_stopping=False,
        do_sample=False,
    )
    there = torch.ones(1, len(embeds), dtype=torch.long, device=embeds.device)
    inputs = {"inputs_embeds": embeds[None], "attention_mask": there}
    if position_ids is not None:
        inputs["position_ids"] = send(position_ids, embeds.device)[:, None]
    first: list[Tensor] = []

    def note_first(_: object, __: object, output: CausalLMOutputWithPast) -> None:
        if not first:
            first.append(output.logits[0, -1].float().cpu())

    # generate itself would keep the logits of every step and beam: gigabytes.
    hook = llm.register_forward_hook(note_first)
    try:
        (found,) = llm.generate(generation_config=config, **inputs)
    finally:
        hook.remove()
    ids = found.tolist()
    (answer,) = generated([ids], [max_new_tokens], end_ids, first[0][None])
    if on_token is not None:
        for token in answer.out_ids:
            on_token(token)
    return answer
