"""The LLM compiled for a few fixed shapes: on a GPU each becomes one CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaForCausalLM, StaticCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from llava.model.reading import Prefix, Reader

# Prompts, and room for answers, come in so many positions, twice as many, ...
LENGTH_STEP = 64
# Shapes of batch, prompt and room that are compiled before torch would give up and go on slowly.
MAX_SHAPES = 64


class Graphs:
    """Makes readers whose every step is a compiled graph.

    Args:
        llm: transformers' Llama, on one device.
    """

    def __init__(self, llm: LlamaForCausalLM) -> None:
        self._config = llm.config
        mode = "reduce-overhead" if llm.device.type == "cuda" else "default"
        self._compiled = torch.compile(llm.forward, mode=mode, dynamic=False)
        # A graph knows the addresses of its cache: each shape has one, used again and again.
        self._caches: dict[tuple[int, int], StaticCache] = {}

    def reader(self, prefixes: Sequence[Prefix], num_new: int, device: torch.device) -> Reader:
        """A reader with room for so many positions behind the prefixes."""
        room = max(prefix.length for prefix in prefixes) + _round_up(num_new)
        shape = (len(prefixes), room)
        if shape not in self._caches:
            self._caches[shape] = StaticCache(config=self._config, max_cache_len=room)
        self._caches[shape].reset()
        return Reader(self._forward, self._config, prefixes, device, self._caches[shape])

    @staticmethod
    def pad(embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A piece (B, L, D) and its mask (B, L), padded on the left to one of the lengths."""
        more = _round_up(embeds.shape[1]) - embeds.shape[1]
        return F.pad(embeds, (0, 0, more, 0)), F.pad(mask, (more, 0))

    def _forward(self, **inputs: object) -> CausalLMOutputWithPast:
        torch.compiler.cudagraph_mark_step_begin()  # what the last step gave out may be overwritten
        with torch._dynamo.config.patch(recompile_limit=MAX_SHAPES):
            return self._compiled(**inputs)


def _round_up(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP
