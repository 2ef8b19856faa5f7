"""Stage 4: prompt, visual tokens and supplement become the LLM's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from llava.model.compensation.supplement import HasSupplement, Supplement
from llava.model.language_model.prompts import Prompt
from llava.model.prompt import prompt_ids
from llava.model.sample import Encoded, Sample
from llava.model.token_pruning.pruner import Pruned
from llava.model.visible_tokens import shared_name, visible_tokens

if TYPE_CHECKING:
    from llava.model.llava_arch import LlavaAccm


def splice_prompts(
    model: LlavaAccm,
    encoded: Sequence[Encoded],
    pruned: Sequence[Pruned | None],
    compensations: Sequence[HasSupplement | None],
    samples: Sequence[Sample],
) -> list[Prompt]:
    """Returns the LLM's input for B samples; a text that the LLM has no room for is cut."""
    given = [Supplement() if one is None else one.supplement for one in compensations]
    ids = [input_ids(model, *both) for both in zip(samples, given)]
    stages = list(zip(encoded, pruned, samples, given))
    embeds = model.language_model.embed(ids, [visible_tokens(*one) for one in stages])
    names = [shared_name(*one) for one in stages]
    prompts = [Prompt(*prompt) for prompt in zip(ids, embeds, names)]
    return [_rectified(*one) for one in zip(prompts, given, pruned)]


def _rectified(prompt: Prompt, given: Supplement, pruned: Pruned | None) -> Prompt:
    """Returns a prompt with the positions and biases that a compensation gives the kept tokens."""
    start, end, length = prompt.system_length, prompt.image_end, len(prompt.embeds)
    positions, bias = None, None
    if given.position_ids is not None and pruned is not None:
        rest = torch.arange(length - end) + start + pruned.num_tokens
        positions = torch.cat([torch.arange(start), start + given.position_ids.cpu(), rest])
    if given.key_bias is not None:
        bias = F.pad(given.key_bias.float(), (start, length - end))
    return replace(prompt, position_ids=positions, key_bias=bias)


def input_ids(model: LlavaAccm, sample: Sample, given: Supplement = Supplement()) -> list[int]:
    """Returns the ids that the LLM reads of a sample, one of them for all its visual tokens."""
    language_model = model.language_model
    most = language_model.context_length - sample.max_new_tokens + 1 - model.most_seen(sample)
    return prompt_ids(
        sample.question,
        language_model.tokenizer,
        sample.history,
        given.text,
        most,
        given.heading,
    )
