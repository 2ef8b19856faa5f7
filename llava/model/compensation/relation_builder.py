"""Builds a relation model in the shapes of its weight file, and fills it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import Tensor

from llava.errors import UserError, shown
from llava.model.compensation.relation_layers import HEADS
from llava.model.compensation.relation_model import RelationModel, RelationSizes
from llava.model.compensation.triplets import HALF_BFLOAT16, NO_ROUNDING
from llava.model.loading.weights import fill, read_checkpoint, unwrap

_SHOWN = 4  # number of foreign keys that a warning names


def load_relation_model(
    weights: Path,
    device: torch.device | str = "cpu",
    rounding: str = NO_ROUNDING,
) -> RelationModel:
    """Loads a relation model in float32, in eval mode.

    Keys that are not part of the model are ignored with a warning that names them. The published
    code ignores them too, without the warning.

    Args:
        weights: its file: tensors by name, either alone or under the name "model", as RelTR's
            trainer writes them.
        device: of the model.
        rounding: of its weights; see SceneGraphSettings.

    Raises:
        UserError: the file is missing, damaged or not a relation model's.
    """
    source = str(weights)
    tensors = unwrap(read_checkpoint(weights), ["triplet_embed.weight"])
    with init_empty_weights():
        model = RelationModel(sizes_of(tensors, source))
    own = model.state_dict().keys()
    if foreign := sorted(tensors.keys() - own):
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        names = ", ".join(shown(key) for key in foreign[:_SHOWN]) + more
        warnings.warn(f"{source}: {names} are no part of the relation model, and not read")
    used = {key: round_weight(tensors[key], rounding) for key in tensors if key in own}
    fill(model, used, source, torch.float32, lambda name: device)
    return model.to(device).eval().requires_grad_(False)


def round_weight(tensor: Tensor, rounding: str) -> Tensor:
    """Returns a weight unchanged, or rounded to float16 and then to bfloat16."""
    return tensor.half().bfloat16() if rounding == HALF_BFLOAT16 else tensor


def round_input(tensor: Tensor, rounding: str) -> Tensor:
    """Returns patches or a question in float32, first rounded to bfloat16 if that is asked for."""
    return (tensor.bfloat16() if rounding == HALF_BFLOAT16 else tensor).float()


def sizes_of(tensors: Mapping[str, Tensor], source: str) -> RelationSizes:
    """Returns the sizes that follow from the shapes of a relation model's weights.

    Raises:
        UserError: a weight that determines a size is missing or has another shape.
    """

    def shape(key: str, rank: int) -> tuple[int, ...]:
        if key not in tensors or tensors[key].dim() != rank:
            raise UserError(
                f"{source} is not a relation model: it has no tensor {key} of {rank} dimensions"
            )
        return tuple(tensors[key].shape)

    def count(part: str) -> int:
        pattern = re.compile(rf"transformer\.{part}\.layers\.(\d+)\.")
        return len({match[1] for key in tensors if (match := pattern.match(key))})

    width, embed_dim, *_ = shape("input_proj.weight", 4)
    if width % HEADS:
        raise UserError(f"{source} has width {width}, which {HEADS} heads cannot share")
    return RelationSizes(
        embed_dim=embed_dim,
        width=width,
        feedforward=shape("transformer.encoder.layers.0.linear1.weight", 2)[0],
        encoder_layers=count("encoder"),
        decoder_layers=max(1, count("decoder")),  # without any, its weights are named as missing
        num_entities=shape("entity_embed.weight", 2)[0],
        num_triplets=shape("triplet_embed.weight", 2)[0],
        num_classes=shape("sub_class_embed.weight", 2)[0],
        num_predicates=shape("rel_class_embed.layers.1.weight", 2)[0],
    )
