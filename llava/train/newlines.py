"""The newline tokens of LLaVA-NeXT in training, where prompts are packed features.

A row of zeros among the features stands for a newline token: a tower never gives one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llava.model.backbones.tiles import TiledTokens, with_newlines
from llava.model.multimodal_encoder.visual_tokens import VisualTokens


class NewlineProjector(nn.Module):
    """A projector that gives the newline token for a row of zeros.

    Args:
        projector: maps features (..., C) to embeddings (..., D).
        newline: (D,), the newline token.
    """

    def __init__(self, projector: nn.Module, newline: Tensor) -> None:
        super().__init__()
        self.projector = projector
        self.newline = nn.Parameter(newline, requires_grad=newline.requires_grad)

    def forward(self, features: Tensor) -> Tensor:
        """Returns embeddings (..., D) of features (..., C)."""
        is_newline = (features == 0).all(dim=-1, keepdim=True)
        embeds = self.projector(features)
        return torch.where(is_newline, self.newline.to(embeds.dtype), embeds)


def read_features(image: VisualTokens, kept_idx: Tensor) -> Tensor:
    """Returns the features (K', C) that the LLM reads of an image's kept tokens (K,).

    For LLaVA-NeXT they have the rows of zeros that stand for newline tokens.
    """
    features = image.features[kept_idx]
    if not isinstance(image, TiledTokens) or image.layout is None:
        return features
    return with_newlines(features, kept_idx, image.layout, features.new_zeros(features.shape[1]))
