"""Preprocessed images: what a family's vision tower reads of one image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Union

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Patches:
    """A preprocessed image that is more than one square of fixed size.

    Attributes:
        values: its squares (V, 3, S, S), or flattened patches (n, d); float32 on the CPU.
        shape: what the values alone do not say, in whole numbers: the image's height and width for
            LLaVA-NeXT, frames, rows and columns of patches for Qwen2.5-VL.
        side: (3, S, S), the same image for a CLIP beside the model's own tower, if there is one.
        size: height and width of the image in pixels.
    """

    values: Tensor
    shape: tuple[int, ...]
    side: Tensor | None = None
    size: tuple[int, int] = (0, 0)


Pixels = Union[Tensor, Patches]  # a Tensor is one square (3, S, S)


def digest_of(pixels: Pixels) -> bytes:
    """Returns a key of an image, which equal preprocessed images share."""
    parts: list[Any] = [pixels]
    sizes = tuple(pixels.shape)
    if isinstance(pixels, Patches):
        parts, sizes = [pixels.values, pixels.side], (*pixels.shape, *pixels.size)
    digest = hashlib.blake2b(repr(sizes).encode())
    for part in parts:
        if part is not None:
            digest.update(part.contiguous().numpy().tobytes())
    return digest.digest()
