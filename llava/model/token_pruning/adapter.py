"""Adapts published pruners to the pipeline: the arrays that they read, and their choices."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from llava.model.multimodal_encoder.visual_tokens import (
    OF_QUESTION,
    Needs,
    VisualTokens,
    needed,
)
from llava.model.token_pruning.choice import Choice, PublishedPruner
from llava.model.token_pruning.pruner import CLS, Pruned, Pruner, Query

_LAST_KEYS = "last keys"
# The arrays by their names in the recorded cases: the need to compute, and the place of the value.
_ARRAYS: dict[str, tuple[Needs, Callable[[VisualTokens, Query], Tensor | None]]] = {
    "hidden": (Needs.NOTHING, lambda image, _: _hidden(image)),
    "attn_cls": (Needs.HEAD_ATTENTION, lambda image, _: image.head_attention),
    "attn_cls_mid": (Needs.MIDDLE_HEAD_ATTENTION, lambda image, _: image.middle_head_attention),
    "attn_mean_deep": (Needs.RECEIVED, lambda image, _: image.received),
    "attn_mean_mid": (Needs.MIDDLE_RECEIVED, lambda image, _: image.middle_received),
    "keys": (Needs.KEYS, lambda image, _: image.keys),
    _LAST_KEYS: (Needs.LAST_KEYS, lambda image, _: image.last_keys),
    "query_cls": (Needs.LAST_QUERY, lambda image, _: image.last_query),
    "projected": (Needs.PROJECTED, lambda image, _: image.projected),
    "image_embeds": (Needs.FEATURE_EMBEDS, lambda image, _: image.feature_embeds),
    "text_embeds": (Needs.TEXT_EMBEDS, lambda _, query: query.text_embeds),
    "llm_text": (Needs.WORDS, lambda _, query: query.words),
}


def _hidden(image: VisualTokens) -> Tensor:
    """Returns the features (N+1, C), the CLS first: zero unless a pruner that keeps it asked."""
    cls = image.features.new_zeros(1, image.features.shape[1])
    if image.cls_feature is not None:
        cls = image.cls_feature[None]
    return torch.cat([cls, image.features])


def is_before_llm(published: PublishedPruner) -> bool:
    """Returns whether all values that a published pruner reads exist before the LLM runs."""
    return all(name in _ARRAYS for name in published.reads)


def as_pruner(published: PublishedPruner) -> Pruner:
    """Returns a published pruner as a pruner of the pipeline."""
    needs = reduce(Needs.__or__, (_ARRAYS[name][0] for name in _sources(published).values()))
    if published.keeps_cls:
        needs |= Needs.CLS_FEATURE
    return Pruner(
        published.name,
        partial(_select, published, bool(needs & OF_QUESTION)),
        needs,
        published.options,
        published.paper,
        published.check,
        by_view=published.by_view,
    )


def _sources(published: PublishedPruner) -> dict[str, str]:
    """Returns the entry of _ARRAYS for each array that a method reads."""
    renamed = {"keys": _LAST_KEYS} if published.reads_last_keys else {}
    return {name: renamed.get(name, name) for name in published.reads}


def _select(
    published: PublishedPruner,
    reads_question: bool,
    images: Sequence[VisualTokens],
    queries: Sequence[Query],
    budgets: Sequence[int],
    options: Sequence[Any],
    generators: Sequence[torch.Generator],
) -> list[Pruned]:
    """Prunes B images: a Pruner's select.

    On a GPU, images with the same settings are pruned together. On a CPU each is pruned alone,
    which costs nothing there: sums then add in the same order in every batch.
    """
    arrays: list[dict[str, Tensor]] = []
    groups: dict[Hashable, tuple[tuple[int, Any], list[int]]] = {}
    for b, (image, query) in enumerate(zip(images, queries)):
        found = {
            name: needed(_ARRAYS[source][1](image, query)).float()
            for name, source in _sources(published).items()
        }
        arrays.append(found)
        asked = budgets[b], _with_seed(options[b], generators[b])
        place = b if image.features.device.type == "cpu" else None
        if published.by_view:
            (view,) = image.views
            found["grid"] = torch.tensor((view.rows, view.columns))
        sizes = (tuple(found["grid"].tolist()),) if published.by_view else ()
        key = (place, *asked, *sizes, *(values.shape for values in found.values()))
        groups.setdefault(key, (asked, []))[1].append(b)
    results: dict[int, Pruned] = {}
    for (budget, settings), places in groups.values():
        x = {name: torch.stack([arrays[b][name] for b in places]) for name in arrays[places[0]]}
        for b, choice in zip(places, published.choose(x, budget, settings)):
            num_tokens = len(images[b].features)
            results[b] = _pruned(choice, published, reads_question, num_tokens)
    return [results[b] for b in range(len(images))]


def _with_seed(options: Any, generator: torch.Generator) -> Any:
    """Returns options whose seed, if they have one and it is not given, is the sample's."""
    if getattr(options, "seed", 0) is None:
        return replace(options, seed=generator.initial_seed())
    return options


def _pruned(
    choice: Choice, published: PublishedPruner, reads_question: bool, num_tokens: int
) -> Pruned:
    """Returns a Choice as a Pruned of the pipeline.

    The reason of a token that joins several is "merged", whatever the method states.
    """
    kept = (choice.kept if choice.anchors is None else choice.anchors).cpu()
    reasons = list(choice.reasons or (published.reason,) * len(kept))
    if choice.weights is not None:
        for row, count in enumerate(choice.weights.count_nonzero(dim=1).tolist()):
            reasons[row] = "merged" if count > 1 else reasons[row]
    return Pruned(
        num_tokens,
        kept,
        tuple("CLS token" if i == CLS else word for i, word in zip(kept.tolist(), reasons)),
        choice.weights,
        reads_question,
        is_projected=published.merges_projected,
    )
