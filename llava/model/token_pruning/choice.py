"""A published pruner, and its choice for an image, which the adapter turns into a Pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """The tokens that a method keeps of one image of N patches.

    Attributes:
        kept: (K,) int64, patch indices in the order of the method's output; -1 is the CLS token,
            which some methods keep.
        picked: (K,) int64, the order of choice; None if the method has none.
        num_out: number of output tokens, merged ones included; None: the number of kept ones.
        arrays: merged tokens and other values, by their names in the recorded cases.
        weights: (num_out, N+1), the share of the CLS token and of each patch in each output token;
            None: the output is the kept tokens.
        anchors: (num_out,) int64, the token whose place each output token takes; None: the kept
            ones.
        reasons: num_out words, the reason for each output token; None: the method's single reason.
    """

    kept: Tensor
    picked: Tensor | None = None
    num_out: int | None = None
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None
    anchors: Tensor | None = None
    reasons: tuple[str, ...] | None = None


Choose = Callable[[Mapping[str, Tensor], "int | None", Any], list[Choice]]


@dataclass(frozen=True)
class PublishedPruner:
    """A method of other authors; adapter.as_pruner turns it into a Pruner of the pipeline.

    Attributes:
        name: as in the recorded cases.
        choose: choose(x, budget, settings) returns a Choice for each of B images. x has arrays (B,
            ...) float32 or float64 by name; with a budget of None the method chooses the number.
        options: the frozen dataclass of its settings, published defaults included.
        reads: the arrays of x that it reads.
        paper: where it is published.
        licence: the licence of the authors' code, of which no line is here.
        variants: names of the recorded variants; their differences are in their settings.
        reason: why it keeps a token, a word for pictures.
        reads_last_keys: whether its keys are those of the tower's last layer, not those of the
            layer of the features.
        merges_projected: whether the weights of its Choices are for projected features.
        keeps_cls: whether the CLS token may be among the tokens that it gives.
        elsewhere: settings of the recorded cases that describe the arrays.
        check: check(budget, sides, settings) raises a UserError where they do not go together in a
            grid of those sides; None: any budget does.
        by_view: whether it reads the patches as a grid, whose sides are the array "grid" of x where
            it is not square.
    """

    name: str
    choose: Choose
    options: type
    reads: tuple[str, ...]
    paper: str
    licence: str
    variants: tuple[str, ...] = ("",)
    reason: str = "attention"
    reads_last_keys: bool = False
    merges_projected: bool = False
    keeps_cls: bool = False
    elsewhere: tuple[str, ...] = ()
    check: Callable[[int, tuple[int, int], Any], object] | None = None
    by_view: bool = False
