"""Values of CLIP's layers that published pruners read: attention, keys and queries.

The layers' own weights are called from outside, on the hidden states of one forward pass, so that
only the rows and layers that are needed are computed, whatever attention kernel the tower uses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llava.model.multimodal_encoder.visual_tokens import Needs

CLIP_LAYERS = 24  # of CLIP ViT-L, for which papers name layers
VSCAN_LAYER, HIPRUNE_LAYER = 6, 9  # counted from 1


def layer_of(published: int, num_layers: int) -> int:
    """Returns the layer, counted from 1, that corresponds to one of CLIP ViT-L's 24.

    It is round(l L / 24), at least 1, where L is the number of layers.
    """
    return max(1, round(published * num_layers / CLIP_LAYERS))


def layer_value(
    need: Needs, layers: Sequence[nn.Module], hidden: Sequence[Tensor], select_layer: int
) -> Tensor:
    """Returns one field of VisualTokens for B images; see there.

    Args:
        need: a single need that the layers can give.
        layers: the L encoder layers of the tower.
        hidden: the L + 1 hidden states (B, N+1, C): entry l is what layer l + 1 reads.
        select_layer: the hidden state that becomes the features, counted from the end.
    """
    features = range(len(hidden))[select_layer]
    if need is Needs.CLS_FEATURE:
        return hidden[features][:, 0]
    last, deep = len(layers), max(1, features)
    number = {
        Needs.MIDDLE_HEAD_ATTENTION: layer_of(VSCAN_LAYER, last),
        Needs.MIDDLE_RECEIVED: layer_of(HIPRUNE_LAYER, last),
        Needs.LAST_KEYS: last,
        Needs.LAST_QUERY: last,
    }.get(need, deep)
    layer = layers[number - 1]
    read = layer.layer_norm1(hidden[number - 1])
    if need in Needs.KEYS | Needs.LAST_KEYS:
        return layer.self_attn.k_proj(read)
    if need is Needs.LAST_QUERY:
        # One row per image, whatever the batch: a kernel for several rows rounds differently.
        return torch.cat([layer.self_attn.q_proj(image[:1]) for image in read])
    if need in Needs.RECEIVED | Needs.MIDDLE_RECEIVED:
        return torch.stack([_attention(layer.self_attn, one, one).mean((0, 1)) for one in read])
    return torch.stack([_attention(layer.self_attn, one[:1], one)[:, 0] for one in read])


def _attention(attention: nn.Module, queries: Tensor, tokens: Tensor) -> Tensor:
    """Returns the attention (H, Q, S) float32 of some tokens (Q, C) to all of an image's (S, C)."""
    heads, width = attention.num_heads, attention.head_dim
    query = attention.q_proj(queries).float().view(len(queries), heads, width).transpose(0, 1)
    keys = attention.k_proj(tokens).float().view(len(tokens), heads, width).transpose(0, 1)
    return (query @ keys.mT * attention.scale).softmax(dim=-1)
