"""The visual tokens that the LLM reads of a sample, and a name for them."""

from __future__ import annotations

import weakref
from collections.abc import Hashable

import torch
from torch import Tensor

from llava.model.compensation.supplement import Supplement
from llava.model.language_model.prompts import Reading
from llava.model.multimodal_encoder.visual_tokens import Projected
from llava.model.sample import Encoded, Sample
from llava.model.token_pruning.pruner import Pruned


def visible_tokens(
    encoded: Encoded, pruned: Pruned | None, sample: Sample, given: Supplement = Supplement()
) -> Tensor | Projected:
    """Returns the K tokens that the LLM reads: features (K, C), or already projected.

    A compensation may replace them.
    """
    if given.features is not None:
        return given.features
    features = encoded.image.features
    if pruned is not None:
        return pruned.visible(encoded.image)
    return features[:0] if sample.sees_nothing else features


def seen_idx(encoded: Encoded, pruned: Pruned | None, sample: Sample) -> Tensor:
    """Returns the indices (K,) int64 of the tokens that the LLM reads, on the CPU."""
    if pruned is not None:
        return pruned.kept_idx
    return torch.arange(0 if sample.sees_nothing else len(encoded.image.features))


def shared_name(
    encoded: Encoded, pruned: Pruned | None, sample: Sample, given: Supplement = Supplement()
) -> Hashable | None:
    """Returns a key of a sample's visual tokens; None if they depend on the question.

    It is also None if a compensation changes how the LLM reads them.
    """
    if sample.sees_nothing or given.changes_tokens:
        return None
    image = weakref.ref(encoded.image)  # so that the key does not keep the image in memory
    if pruned is None:
        return image
    if pruned.reads_question or pruned.weights is not None:
        return None
    return image, tuple(pruned.kept_idx.tolist())


def reading_of(pruned: Pruned | None, given: Supplement = Supplement()) -> Reading | None:
    """Returns how the LLM's layers read the kept tokens; None: as in transformers."""
    changed = (pruned and pruned.plan, given.position_ids, given.key_bias)
    if pruned is None or all(change is None for change in changed):
        return None
    return Reading(
        pruned.kept_idx, pruned.plan, given.position_ids, pruned.num_tokens, given.key_bias
    )
