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
    """

    kept: Tensor
    picked: Tensor | None = None
    num_out: int | None = None
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


Choose = Callable[[Mapping[str, Tensor], "int | None", Any], list[Choice]]


@dataclass(frozen=True)
class PublishedPruner:
    """A method of other authors.

    Attributes:
        name: as in the recorded cases.
        choose: choose(x, budget, settings) gives a Choice for each of B images. x has arrays
            (B, ...) float32 or float64 by name; a budget of None leaves the number to the method.
        options: the frozen dataclass of its settings, published defaults included.
        reads: the arrays of x that it reads.
        paper: where it is published.
        licence: of the authors' code. None of it is in ours.
        variants: names of the recorded variants; what they differ in is in their settings.
    """

    name: str
    choose: Choose
    options: type
    reads: tuple[str, ...]
    paper: str
    licence: str
    variants: tuple[str, ...] = ("",)
