"""Stage 4: prompt, visual tokens and supplement become the LLM's input.

The place of the caption in the prompt is decided in llava.model.prompt_ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llava.model.compensation.supplement import Gives, HasSupplement, Supplement
from llava.model.kv_cache import KVPrefix
from llava.model.language_model.prompts import Prompt
from llava.model.memory import Memory
from llava.model.multimodal_encoder.visual_tokens import Projected
from llava.model.multimodal_projector.images import project_each
from llava.model.sample import Encoded, Sample
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.pruner import Pruned
from llava.model.visible_tokens import reading_of, seen_idx, shared_name, visible_tokens

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
    visible = [visible_tokens(*one) for one in stages]
    seen = [seen_idx(*one) for one in zip(encoded, pruned, samples)]
    images, backbone = [one.image for one in encoded], model.backbone
    projected = project_each(model.language_model.project, visible)
    arranged = [
        Projected(backbone.arrange(projected[id(tokens)], idx, image))
        for tokens, idx, image in zip(visible, seen, images)
    ]
    embeds = model.language_model.embed(ids, arranged)
    names = [shared_name(*one) for one in stages]
    readings = [reading_of(*one) for one in zip(pruned, given)]
    places = [backbone.position_ids(*one) for one in zip(ids, seen, images)]
    return [
        Prompt(row, embed, name, reading=reading, position_ids=place, num_visual=len(idx))
        for row, embed, name, reading, place, idx in zip(ids, embeds, names, readings, places, seen)
    ]


def input_ids(model: LlavaAccm, sample: Sample, given: Supplement = Supplement()) -> list[int]:
    """Returns the ids that the LLM reads of a sample, one of them for all its visual tokens."""
    length = model.language_model.context_length
    most = length - sample.max_new_tokens + 1 - model.most_seen(sample)
    return model.backbone.prompt_ids(sample, given, most)


def prefill_ahead(
    model: LlavaAccm,
    encoded: Sequence[Encoded],
    pruned: Sequence[Pruned | None],
    samples: Sequence[Sample],
    watch: Stopwatch,
    memory: Memory,
) -> dict[int, KVPrefix]:
    """Reads everything before the text, for the samples that wait for one.

    Nothing is read if a compensation gives more than a text, because the prompt before the text is
    then not known yet.
    """
    waiting = [b for b, one in enumerate(pruned) if one is not None and one.is_settled]
    if model.compensator is None or model.compensator.gives != Gives.TEXT or not waiting:
        return {}
    prompts = model.splice(
        [encoded[b] for b in waiting],
        [pruned[b] for b in waiting],
        [None] * len(waiting),
        [samples[b] for b in waiting],
    )
    for prompt in prompts:  # prefixes that are kept are read on the main stream
        model.language_model.prefill_system(prompt, memory)
    with model.side.beside(*[p.embeds for p in prompts]), watch.stage("prefill"):
        return dict(zip(waiting, model.language_model.prefill_images(prompts, memory)))
