"""Functions that published pruners inside the LLM share.

The sequence of an LLM layer is system tokens, N image tokens, T text tokens.
"""

from __future__ import annotations

import math

from torch import Tensor

from llava.errors import UserError
from llava.model.token_pruning.common import INF


def places_of_image(length: int, system_tokens: int, num_patches: int | None) -> slice:
    """Returns where the image tokens are in a sequence.

    Args:
        length: S, system + N + T.
        system_tokens: tokens before the image.
        num_patches: N; None takes the largest square that leaves a text token.

    Raises:
        UserError: the sequence is too short for them.
    """
    if num_patches is None:
        num_patches = math.isqrt(max(0, length - system_tokens - 1)) ** 2
    if num_patches < 1 or length <= system_tokens + num_patches:
        raise UserError(
            f"a sequence of {length} tokens has no room for {system_tokens} system tokens, an image"
            f" of {num_patches} and a text token: check system_tokens and num_patches"
        )
    return slice(system_tokens, system_tokens + num_patches)


def attention_of(query: Tensor, keys: Tensor, heads: int, alive: Tensor) -> Tensor:
    """Returns the attention (B, S) of one token to a sequence, averaged over the heads.

    Args:
        query: (B, D), heads side by side, after RoPE.
        keys: (B, S, D), in the same form.
        heads: H.
        alive: (B, S) bool; False for tokens that were dropped.

    Raises:
        UserError: D is not a multiple of H.
    """
    b, length, width = keys.shape
    if heads < 1 or width % heads:
        raise UserError(f"keys of width {width} cannot be split into {heads} heads: check heads")
    size = width // heads
    parts = keys.reshape(b, length, heads, size) * query.reshape(b, 1, heads, size)
    scores = parts.sum(-1) / size**0.5
    return scores.masked_fill(~alive[..., None], -INF).softmax(1).mean(-1)
