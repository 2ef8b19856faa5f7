"""The LLM compiled for a few fixed shapes: on a GPU each becomes one CUDA graph."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import torch
from cachetools import LRUCache
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaForCausalLM, StaticCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from llava.errors import UserError
from llava.mm_utils import round_up
from llava.model.kv_cache import DecodeSession, KVPrefix

# Prompts, and room for answers, take this number of positions, twice as many, ...
LENGTH_STEP = 64
# The number of shapes that are compiled (two for each kind of batch: its prompts, and its steps)
# before torch would warn and continue uncompiled.
MAX_SHAPES = 64
MAX_CACHES = 4  # for the latest shapes; on LLaVA-1.5-7B 0.2 GB for each prompt and 400 positions


def check_compiler() -> None:
    """Refuses to compile where there is no compiler.

    Raises:
        UserError: how to get one, or do without.
    """
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise UserError(
            "--compile needs a C++ compiler (g++ or clang++), and none is found: install one, or "
            "leave out --compile"
        )


class Graphs:
    """Makes sessions whose every step is a compiled graph.

    Args:
        llm: transformers' Llama, on one device.
    """

    def __init__(self, llm: LlamaForCausalLM) -> None:
        self._llm = llm
        mode = "reduce-overhead" if llm.device.type == "cuda" else "default"
        self._compiled = torch.compile(llm.forward, mode=mode, dynamic=False)
        # A graph holds the addresses of its cache: each shape has one cache, emptied for every
        # batch.
        self._caches: LRUCache = LRUCache(MAX_CACHES)

    def session(
        self, prefixes: Sequence[KVPrefix], num_new: int, device: torch.device
    ) -> DecodeSession:
        """Returns a session with room for that many positions after the prefixes."""
        room = round_up(max(prefix.length for prefix in prefixes) + num_new, LENGTH_STEP)
        kind = (len(prefixes), room, device, self._llm.dtype)
        cache = self._caches.get(kind)
        if cache is None:
            cache = self._caches[kind] = StaticCache(config=self._llm.config, max_cache_len=room)
        cache.reset()
        return DecodeSession(self._forward, self._llm.config, prefixes, device, cache)

    @staticmethod
    def fill_up(prompts: Sequence) -> list:
        """Fills a batch to a power of two by repeating its last prompt: fewer shapes to compile."""
        more = (1 << (len(prompts) - 1).bit_length()) - len(prompts)
        return [*prompts, *[prompts[-1]] * more]

    @staticmethod
    def pad(embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pads a piece (B, L, D) and its mask (B, L) on the left to one of the lengths."""
        more = round_up(embeds.shape[1], LENGTH_STEP) - embeds.shape[1]
        return F.pad(embeds, (0, 0, more, 0)), F.pad(mask, (more, 0))

    def _forward(self, **inputs: object) -> CausalLMOutputWithPast:
        torch.compiler.cudagraph_mark_step_begin()  # the last step's outputs may be overwritten
        with torch._dynamo.config.patch(recompile_limit=MAX_SHAPES):
            return self._compiled(**inputs)
