"""Puts the values of an image's views together, and takes those of one view out again.

Every view passes the tower on its own, with a CLS token of its own. A value of a patch is that of
its view. The CLS token of the first view, which shows the whole image, stands for the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from llava.mm_utils import send
from llava.model.multimodal_encoder.visual_tokens import View, VisualTokens

# The dimension of the tokens, the CLS first among them, of fields that have one for it; in all
# other fields that have values of tokens it is the first, without the CLS.
_WITH_CLS = {
    "head_attention": 1,
    "middle_head_attention": 1,
    "received": 0,
    "middle_received": 0,
    "keys": 0,
    "last_keys": 0,
}
_OF_CLS = ("cls_feature", "last_query")


def joined_views(views: Sequence[VisualTokens], order: Tensor) -> VisualTokens:
    """Returns the tokens of an image from those of its views.

    Args:
        views: of one image, with the same fields each.
        order: (N,) int64, the place of each token among the patches of all views.
    """
    found, order = {}, send(order, views[0].features.device)
    for name, first in _tensors(views[0]).items():
        if name in _OF_CLS:
            found[name] = first
            continue
        parts, dim = [_tensors(view)[name] for view in views], _WITH_CLS.get(name)
        if dim is None:
            found[name] = torch.cat(parts)[order]
            continue
        patches = torch.cat([part.narrow(dim, 1, part.shape[dim] - 1) for part in parts], dim)
        patches = patches.index_select(dim, order)
        found[name] = torch.cat([first.narrow(dim, 0, 1), patches], dim)
    return VisualTokens(**found)


def values_of(image: VisualTokens, view: View) -> VisualTokens:
    """Returns the tokens of one view of an image as an image of its own, with the image's CLS."""
    idx = send(view.idx, image.features.device)
    with_cls = torch.cat([idx.new_zeros(1), idx + 1])
    found = {}
    for name, value in _tensors(image).items():
        if name in _OF_CLS:
            continue
        dim = _WITH_CLS.get(name)
        found[name] = value[idx] if dim is None else value.index_select(dim, with_cls)
    return replace(image, **found, grids=(View(0, view.rows, view.columns),))


def _tensors(image: VisualTokens) -> dict[str, Tensor]:
    found = {field.name: getattr(image, field.name) for field in fields(image)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}
