"""Stage 4: prompt, visual tokens and supplement become the LLM's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llava.model.compensation.supplement import HasSupplement, Supplement
from llava.model.language_model.prompts import Prompt
from llava.model.prompt import prompt_ids
from llava.model.sample import Encoded, Sample
from llava.model.token_pruning.pruner import Pruned
from llava.model.visible_tokens import reading_of, shared_name, visible_tokens

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
    readings = [reading_of(*one) for one in zip(pruned, given)]
    return [Prompt(*one, reading=reading) for *one, reading in zip(ids, embeds, names, readings)]


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
