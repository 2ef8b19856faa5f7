"""The visual tokens that the LLM reads of a sample, and a name for them."""

from __future__ import annotations

import weakref
from collections.abc import Hashable

from torch import Tensor

from llava.mm_utils import send
from llava.model.language_model.prompts import Reading
from llava.model.multimodal_encoder.visual_tokens import Projected
from llava.model.sample import Encoded, Sample
from llava.model.token_pruning.pruner import Pruned


def visible_tokens(encoded: Encoded, pruned: Pruned | None, sample: Sample) -> Tensor | Projected:
    """Returns the K tokens that the LLM reads: features (K, C), or projected already."""
    features = encoded.image.features
    if pruned is not None:
        return pruned.visible(encoded.image)
    return features[:0] if sample.sees_nothing else features


def pick(tokens: Tensor, idx: Tensor) -> Tensor:
    """Returns some of the tokens (N, C) of an image, by indices on the CPU."""
    return tokens[send(idx, tokens.device)]


def shared_name(encoded: Encoded, pruned: Pruned | None, sample: Sample) -> Hashable | None:
    """Returns a key of a sample's visual tokens where they do not depend on the question."""
    if sample.sees_nothing:
        return None
    image = weakref.ref(encoded.image)  # the key shall not keep the image in memory
    if pruned is None:
        return image
    if pruned.reads_question or pruned.weights is not None:
        return None
    return image, tuple(pruned.kept_idx.tolist())


def reading_of(pruned: Pruned | None) -> Reading | None:
    """Returns how the LLM's layers read what was kept; None where as transformers' do."""
    if pruned is None or pruned.plan is None:
        return None
    return Reading(pruned.kept_idx, pruned.plan)
