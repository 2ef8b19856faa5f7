"""A published pruner, and what it chooses for an image before that is a Pruned of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """The tokens that a method keeps of one image of N patches.

    Attributes:
        kept: (K,) int64, patch indices in the order in which the method hands them on; -1 is the
            CLS token, which some methods keep.
        picked: (K,) int64, the order of choice where the method has one; None where it has none.
        num_out: tokens handed on, merged ones included; None is the number of kept ones.
        arrays: merged tokens and other values, by their names in the recorded cases.
        weights: (num_out, N+1), the share of the CLS token and of each patch in each token that is
            handed on; None: the kept ones as they are.
        anchors: (num_out,) int64, the token in whose place each one that is handed on stands; None:
            the kept ones.
        reasons: why each token is handed on, num_out words; None: for the method's one reason.
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
    """A method of other authors; adapter.as_pruner makes a Pruner of the pipeline of it.

    Attributes:
        name: as in the recorded cases.
        choose: choose(x, budget, settings) gives a Choice for each of B images. x has arrays
            (B, ...) float32 or float64 by name; a budget of None leaves the number to the method.
        options: the frozen dataclass of its settings, published defaults included.
        reads: the arrays of x that it reads.
        paper: where it is published.
        licence: of the authors' code. None of it is in ours.
        variants: names of the recorded variants; what they differ in is in their settings.
        reason: why it keeps a token, a word for pictures.
        reads_last_keys: whether its keys are those of the tower's last layer, not those of the
            layer of the features.
        merges_projected: whether the weights of its Choices are for projected features.
        elsewhere: settings of the recorded cases that say what the arrays are.
        check: check(budget, num_patches, settings) raises a UserError where they do not go
            together; None: any budget does.
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
    elsewhere: tuple[str, ...] = ()
    check: Callable[[int, int, Any], object] | None = None
