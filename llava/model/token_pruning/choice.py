"""What a published pruner chooses for one image, before it is a Pruned of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
