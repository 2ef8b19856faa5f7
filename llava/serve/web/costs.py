"""The cost of a question at LLaVA-1.5-7B's shapes, measured once and not by the page.

The numbers are those of the first table of docs/performance.md. They are constants because no
formula gives them: llava.eval.bench predicts from the speed of its own machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from llava.model.llava_arch import LlavaAccm
from llava.model.shapes import LLAVA_7B

PATCHES = 576
CONDITIONS = (
    "by an earlier version, with random weights, bfloat16, answers of 4 tokens, 2 cores of an "
    "Intel Xeon (AVX-512, no AMX), 2026-11-25"
)


class Cost(NamedTuple):
    """A row of the table: kept visual tokens, median seconds in total and of each stage."""

    tokens: int
    seconds: float
    stages: Mapping[str, float]


TRANSFORMERS_SECONDS = 55.6847  # transformers' own LLaVA on the same weights: "hf"
FULL = Cost(
    PATCHES,
    53.5054,
    {"encode": 2.7506, "prune": 0.0, "splice": 0.1487, "prefill": 48.823, "decode": 1.5804},
)
PRUNED = Cost(
    36,
    9.8146,
    {"encode": 2.6511, "prune": 0.002, "splice": 0.0113, "prefill": 5.5119, "decode": 1.4611},
)
WITH_CAPTION = Cost(
    36,
    12.2601,
    {
        "encode": 2.7316,
        "prune": 0.0019,
        "caption": 0.5986,
        "select": 0.1003,
        "splice": 0.0116,
        "prefill": 7.3687,
        "decode": 1.4486,
    },
)


def is_of_these_shapes(model: LlavaAccm) -> bool:
    """Returns whether a model has these shapes, and thus this cost."""
    llm = model.language_model.llm.config
    same = ("hidden_size", "intermediate_size", "num_hidden_layers")
    return model.count_tokens() == PATCHES and all(
        getattr(llm, name) == LLAVA_7B.llm[name] for name in same
    )
