"""The published pruners inside the LLM, as pruners of the pipeline: layers and inputs.

The choice of each is in its own file. A layer is one before which tokens are dropped, counted from
0, in an LLM of 32: if authors count from 0 and say "after layer l", it is l + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from llava.errors import UserError
from llava.model.multimodal_encoder.visual_tokens import VisualTokens
from llava.model.token_pruning import sparsevlm as sparse
from llava.model.token_pruning.adapter import as_pruner
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.controls import all_tokens, each
from llava.model.token_pruning.dart import DartOptions, dart
from llava.model.token_pruning.fastv import FastVOptions, fastv
from llava.model.token_pruning.layer_pruner import LayerPruner, LayerState
from llava.model.token_pruning.pruner import Pruned, Pruner, Query
from llava.model.token_pruning.published import PUBLISHED
from llava.model.token_pruning.pyramiddrop import PyramidDropOptions, pyramiddrop
from llava.model.token_pruning.vscan import VScanOptions

_VSCAN = as_pruner(PUBLISHED["vscan"])


@dataclass(frozen=True)
class FastVLayers:
    """The options of FastV.

    Attributes:
        layers: the layers before which tokens are dropped.
        published: K is the number after the drop, instead of the mean over the layers.
    """

    layers: tuple[int, ...] = (2,)
    published: bool = False


@dataclass(frozen=True)
class DartLayers(FastVLayers):
    """The options of DART.

    Attributes:
        layers, published: see FastVLayers; the authors' number is that of DartOptions.
        pivot_image, pivot_text: see DartOptions.
    """

    pivot_image: int = 4
    pivot_text: int = 4


@dataclass(frozen=True)
class PyramidDropLayers(FastVLayers):
    """The options of PyramidDrop.

    Attributes:
        layers: see FastVLayers.
        published: K tokens are left after the last drop, and twice as many after each earlier one.
            For 576 patches and K = 72 these are the authors' 288, 144 and 72.
    """

    layers: tuple[int, ...] = (8, 16, 24)


@dataclass(frozen=True)
class SparseVlmLayers(FastVLayers):
    """The options of SparseVLM.

    Attributes:
        layers: see FastVLayers; the authors drop after layers 2, 6 and 15.
        published: K names one of the authors' lists, and clusters come on top of it.
        merge_share, cluster_div, seed: see SparseVlmOptions.
    """

    layers: tuple[int, ...] = (3, 7, 16)
    merge_share: float = 0.3
    cluster_div: int = 10
    seed: int = 0

    @property
    def of_stage(self) -> sparse.SparseVlmOptions:
        """The options of the choice at one stage."""
        shared = self.merge_share, self.cluster_div, self.seed, self.published
        return sparse.SparseVlmOptions((), *shared)


@dataclass(frozen=True)
class VScanLayers(FastVLayers):
    """The options of VScan with both stages.

    Attributes:
        layers: see FastVLayers.
        published: the second stage keeps a third of what the first one kept.
    """

    layers: tuple[int, ...] = (16,)


def _fastv(state: LayerState, count: int, options: FastVLayers) -> Choice:
    settings = FastVOptions(system_tokens=state.system_tokens)
    return fastv({"llm_attn": state.read("attention")}, count, settings)[0]


def _dart(state: LayerState, count: int, options: DartLayers) -> Choice:
    settings = DartOptions(
        pivot_image=options.pivot_image,
        pivot_text=options.pivot_text,
        published=options.published,
        system_tokens=state.system_tokens,
        num_patches=state.num_visual,
    )
    x = {"llm_keys": state.read("keys"), "llm_hidden": state.read("normed")}
    return dart(x, count, settings)[0]


def _ranked(state: LayerState, count: int, options: FastVLayers) -> Choice:
    """Keeps the tokens to which the last token attends most in the next layer."""
    settings = PyramidDropOptions(
        keep=(count,),
        heads=state.heads,
        system_tokens=state.system_tokens,
        num_patches=state.num_visual,
    )
    x = {"llm_queries": state.read("next_query"), "llm_keys": state.read("next_keys")}
    return pyramiddrop(x, count, settings)[0]


def _sparsevlm(state: LayerState, count: int, options: SparseVlmLayers) -> Choice:
    arrays = {
        "projected": "image",
        "llm_text": "text",
        "llm_attn": "attention",
        "llm_hidden": "hidden",
    }
    settings = replace(
        options.of_stage, system_tokens=state.system_tokens, num_patches=state.num_visual
    )
    x = {name: state.read(source) for name, source in arrays.items()}
    (choice,) = sparse.sparsevlm(x, count, settings)
    return replace(choice, arrays={**choice.arrays, "merged": choice.arrays["clusters"]})


def _dart_counts(first: int, budget: int, options: DartLayers) -> list[tuple[int, int]]:
    pivots = min(options.pivot_image, first)
    return [(budget, pivots + _all_pivots(options) * int(budget / _all_pivots(options)))]


def _all_pivots(options: DartLayers) -> int:
    return options.pivot_image + options.pivot_text


def _halves(first: int, budget: int, options: FastVLayers) -> list[tuple[int, int]]:
    stages = len(options.layers)
    counts = [min(first, budget * 2 ** (stages - 1 - stage)) for stage in range(stages)]
    return [(count, count) for count in counts]


def _listed(first: int, budget: int, options: SparseVlmLayers) -> list[tuple[int, int]]:
    if budget not in sparse.SCHEDULES:
        raise UserError(
            f"the pruner sparsevlm with published=true has lists for "
            f"{', '.join(map(str, sparse.SCHEDULES))} tokens, and not for {budget}: use one of them"
        )
    found, tokens = [], first
    for asked in sparse.SCHEDULES[budget]:
        if asked < tokens:
            kept, _, clusters = sparse.counts_of(asked, tokens, options.of_stage)
            tokens = kept + clusters
        found.append((asked, tokens))
    return found


def _vscan_first(
    images: Sequence[VisualTokens],
    queries: Sequence[Query],
    budgets: Sequence[int],
    options: Sequence[VScanLayers],
    generators: Sequence[torch.Generator],
) -> list[Pruned]:
    """Prunes B images by VScan's first stage."""
    first = [VScanOptions(published=one.published) for one in options]
    return _VSCAN.select(images, queries, budgets, first, generators)


def _vscan_tokens(budget: int, num_patches: int, before: float) -> int:
    """Returns the number of tokens of the first layer: three times the number left at the end."""
    return min(num_patches, round(budget / (before + (1 - before) / 3)))


def _layered(name: str, options: type, paper: str, layers: LayerPruner) -> Pruner:
    return Pruner(name, each(all_tokens), options=options, paper=paper, layers=layers)


INSIDE_LLM: tuple[Pruner, ...] = (
    _layered(
        "fastv",
        FastVLayers,
        "arXiv 2403.06764",
        LayerPruner(_fastv, lambda first, budget, _: [(budget, budget)], renumbers=False),
    ),
    _layered(
        "pyramiddrop",
        PyramidDropLayers,
        "arXiv 2410.17247",
        LayerPruner(_ranked, _halves, renumbers=True),
    ),
    _layered(
        "sparsevlm",
        SparseVlmLayers,
        "arXiv 2410.04417",
        LayerPruner(_sparsevlm, _listed, renumbers=True),
    ),
    _layered(
        "dart", DartLayers, "arXiv 2502.11494", LayerPruner(_dart, _dart_counts, renumbers=False)
    ),
    Pruner(
        "vscan_llm",
        _vscan_first,
        _VSCAN.needs,
        VScanLayers,
        "arXiv 2505.22654",
        layers=LayerPruner(
            _ranked,
            lambda first, budget, _: [(round(first / 3), round(first / 3))],
            renumbers=True,
            first=_vscan_tokens,
        ),
    ),
)
