"""Pruners inside the LLM: the number of visual tokens that each layer reads, and their choice.

Layers are counted from 0, and a schedule names the layers before which tokens are dropped. Papers
name layers for an LLM of 32; see layers_of. The budget K of such a pruner is the mean over the
layers of the visual tokens that they read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from llava.errors import UserError
from llava.model.token_pruning.choice import Choice

PUBLISHED_LAYERS = 32
MERGED = -2  # the index of a token that was merged from several inside the LLM


@dataclass(frozen=True)
class LayerState:
    """One sample before a layer of the LLM: system tokens, n visual tokens, T text tokens.

    Attributes:
        system_tokens: positions before the image.
        num_visual: n, the number of remaining tokens, merged ones included.
        heads: attention heads of the LLM.
        read: read(name) computes a float32 tensor of a batch of 1, with S = system + n + T:
            "attention" (1, H, T, S), of the text tokens in the layer before;
            "keys" (1, S, D), of the layer before, after RoPE, heads side by side;
            "next_query" (1, 1, D) of the last token and "next_keys" (1, S, D) of this layer;
            "hidden" (1, S, D), the states, and "normed", the same after the LLM's last norm, zero
            for system tokens;
            "image" (1, N, D) and "text" (1, T, D), the LLM's input embeddings.
    """

    system_tokens: int
    num_visual: int
    heads: int
    read: Callable[[str], Tensor]


@dataclass(frozen=True)
class LayerKept:
    """The visual tokens that the LLM's layers read from one layer on.

    Attributes:
        layer: the first of them.
        kept_idx: indices into the tokens of the LLM's first layer, in order; MERGED stands for a
            token that was merged from several inside the LLM.
    """

    layer: int
    kept_idx: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """A drop before a layer.

    Attributes:
        layer: the layer.
        asked: the number that is asked of the pruner.
        tokens: the number that the layer reads; larger if merged tokens are added to those.
    """

    layer: int
    asked: int
    tokens: int


# own_counts(first, budget, options); see LayerPruner
OwnCounts = Callable[[int, int, Any], Sequence[tuple[int, int]]]


@dataclass(frozen=True)
class LayerPruner:
    """The part of a pruner that works inside the LLM.

    Attributes:
        keep: keep(state, count, options) chooses among the n visual tokens of one sample. Of the
            Choice, kept is rising, and the array "merged" (G, D) follows the kept ones.
        own_counts: own_counts(first, budget, options) returns for each stage the number that is
            asked of the authors' code, and the number that it gives; for published=true.
        renumbers: whether position ids are counted again after a drop; if not, they stay.
        first: first(budget, num_patches, before) returns the number of tokens of the first layer,
            if it is not all patches; before is the share of the layers before the first drop.
    """

    keep: Callable[[LayerState, int, Any], Choice]
    own_counts: OwnCounts
    renumbers: bool
    first: Callable[[int, int, float], int] | None = None


@dataclass(frozen=True)
class LayerPlan:
    """The plan for pruning an image inside an LLM.

    Attributes:
        pruner: chooses the tokens.
        options: of the pruner's own type.
        num_layers: L, of the LLM.
        first: the visual tokens that the first layer reads.
        stages: the drops, by rising layers.
    """

    pruner: LayerPruner
    options: Any
    num_layers: int
    first: int
    stages: tuple[Stage, ...]

    @property
    def schedule(self) -> dict[int, int]:
        """The number of visual tokens from each layer on."""
        return {0: self.first} | {stage.layer: stage.tokens for stage in self.stages}

    @property
    def tokens_per_layer(self) -> tuple[int, ...]:
        """The number of visual tokens that each layer reads."""
        found, schedule = [self.first], self.schedule
        for layer in range(1, self.num_layers):
            found.append(schedule.get(layer, found[-1]))
        return tuple(found)

    @property
    def mean_tokens(self) -> float:
        """The mean over the layers of the visual tokens that they read."""
        return sum(self.tokens_per_layer) / self.num_layers

    def __str__(self) -> str:
        later = "".join(f", {s.tokens} from layer {s.layer} on" for s in self.stages)
        return f"{self.first} visual tokens{later}: {self.mean_tokens:.1f} on average"


def plan_layers(
    name: str, pruner: LayerPruner, options: Any, num_layers: int, num_patches: int, budget: int
) -> LayerPlan:
    """Returns the schedule of a pruner for an LLM of num_layers.

    Args:
        name: of the pruner, for messages.
        pruner: its part inside the LLM.
        options: "layers" are those of an LLM of 32, "published" takes the authors' numbers.
        num_layers: L.
        num_patches: N.
        budget: K, the mean over the layers; with published the K of the authors.

    Raises:
        UserError: the LLM has too few layers, or the budget cannot be met.
    """
    layers = layers_of(name, options.layers, num_layers)
    first = num_patches
    if pruner.first is not None:
        first = pruner.first(budget, num_patches, layers[0] / num_layers)
    if options.published:
        counts = pruner.own_counts(first, budget, options)
        if len(counts) != len(layers):
            raise UserError(
                f"the pruner {name} with published=true has {len(counts)} layers, and layers names "
                f"{len(layers)}: leave one of the two out"
            )
    else:
        counts = [(one, one) for one in counts_of(name, layers, num_layers, first, budget)]
    stages = [Stage(layer, *both) for layer, both in zip(layers, counts)]
    return LayerPlan(pruner, options, num_layers, first, tuple(stages))


def layers_of(name: str, published: Sequence[int], num_layers: int) -> list[int]:
    """Returns the layers of an LLM of L that stand for layers l of one of 32.

    They are round(l L / 32), at least 1, and each above the one before.

    Raises:
        UserError: there are none, they do not rise, or the LLM has too few layers.
    """
    if not published or sorted({*published}) != [*published] or published[0] < 1:
        raise UserError(f"the layers of the pruner {name} must be whole numbers from 1 that rise")
    found: list[int] = []
    for layer in published:
        least = found[-1] + 1 if found else 1
        found.append(max(least, round(layer * num_layers / PUBLISHED_LAYERS)))
    if found[-1] >= num_layers:
        raise UserError(
            f"the pruner {name} drops tokens before {len(found)} layers of the LLM and after its "
            f"first, and this one has {num_layers}: use an LLM of more layers, or a pruner before "
            "the LLM"
        )
    return found


def counts_of(
    name: str, layers: Sequence[int], num_layers: int, first: int, budget: int
) -> list[int]:
    """Returns the number of tokens after each stage, so that the layers read K on average.

    Every stage keeps the same share of the tokens, and the last one corrects the rounding of those
    before it, so that the mean in whole tokens is K. Each leaves at least one token for later
    layers.

    Raises:
        UserError: the layers before the first stage alone read too many; the message has the
            smallest possible budget.
    """
    ends = [*layers[1:], num_layers]
    lengths = [end - start for start, end in zip(layers, ends)]
    left = budget * num_layers - first * layers[0]
    if left < sum(lengths):
        least = -(-(first * layers[0] + sum(lengths)) // num_layers)
        raise UserError(
            f"the pruner {name} cannot meet {budget} visual tokens on average, since its first "
            f"{layers[0]} of {num_layers} layers read all {first}: use {least} or more"
        )
    share = _share(lengths, left / first)
    counts: list[int] = []
    for stage, length in enumerate(lengths):
        most = (left - sum(lengths[stage + 1 :])) // length  # leaves a token for each later layer
        wanted = round(first * share ** (stage + 1))
        if stage == len(lengths) - 1:
            most = wanted = round(left / length)
        before = counts[-1] if counts else first
        counts.append(max(1, min(wanted, most, before)))
        left -= counts[-1] * length
    return counts


def _share(lengths: Sequence[int], wanted: float) -> float:
    """Returns the share q from 0 to 1 at which the sum of length_i q^i, i from 1, is wanted."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        total = sum(length * middle ** (i + 1) for i, length in enumerate(lengths))
        low, high = (middle, high) if total < wanted else (low, middle)
    return high
