"""The LLM compiled for prompts and answers of a few fixed lengths."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

import torch
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from llava.errors import UserError

LENGTH_STEP = 64  # prompts take 64 positions, 128, ...
# The number of shapes to compile (two for each kind of batch: its prompts and its steps); beyond
# torch's own limit it would warn and continue uncompiled.
MAX_SHAPES = 64


def check_compiler() -> None:
    """Refuses to compile where there is no compiler.

    Raises:
        UserError: the message says how to get one, or how to run without it.
    """
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise UserError(
            "--compile needs a C++ compiler (g++ or clang++), and none is found: install one, or "
            "leave out --compile"
        )


def compiled(llm: LlamaForCausalLM) -> Callable[..., CausalLMOutputWithPast]:
    """Returns the LLM's forward pass, compiled for each shape of its inputs."""
    fast = torch.compile(llm.forward, dynamic=False)

    def forward(**inputs: object) -> CausalLMOutputWithPast:
        with torch._dynamo.config.patch(recompile_limit=MAX_SHAPES):
            return fast(**inputs)

    return forward


def fill_up(prompts: Sequence) -> list:
    """Fills a batch to a power of two by repeating its last prompt: fewer shapes to compile."""
    more = (1 << (len(prompts) - 1).bit_length()) - len(prompts)
    return [*prompts, *[prompts[-1]] * more]
