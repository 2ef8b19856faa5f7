"""Projects the visual tokens of several images in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llava.model.multimodal_encoder.visual_tokens import Projected


def project_each(
    project: Callable[[Tensor], Tensor], images: Sequence[Tensor | Projected]
) -> dict[int, Tensor]:
    """Projects each image once; returns the embeddings (K, D) by the id() of the given object.

    Args:
        project: returns embeddings (K, D) of features (K, C).
        images: features (K, C), or tokens that have passed the projector and stay as they are.
    """
    found = {id(one): one.tokens for one in images if isinstance(one, Projected)}
    others = {id(one): one for one in images if isinstance(one, Tensor)}
    if others:
        projected = project(torch.cat(list(others.values())))
        found |= zip(others, projected.split([len(one) for one in others.values()]))
    return found
