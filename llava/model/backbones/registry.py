"""The model families: how a checkpoint becomes a Backbone. To add one, see docs/models.md.

``llava.model.loading.families`` tells the family of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llava.arguments import ModelArguments
from llava.model.backbones.backbone import Backbone
from llava.model.backbones.llava15 import count_llava15, load_llava15
from llava.model.backbones.llava_next import LlavaNext, count_llava_next, load_llava_next
from llava.model.backbones.qwen2_5_vl import Qwen25Vl
from llava.model.backbones.qwen_loading import count_qwen, load_qwen
from llava.model.loading.configs import CheckpointConfig
from llava.model.loading.llava_config import LLAVA15
from llava.model.loading.next_config import LLAVA_NEXT
from llava.model.loading.parts import read_model
from llava.model.loading.placement import Placement
from llava.model.loading.qwen_config import QWEN2_5_VL


@dataclass(frozen=True)
class Family:
    """Says how the checkpoints of a family are loaded.

    Attributes:
        load: load(args, parts, config, place) returns a Backbone, and how the question picks
            patches ("farthest" or "nearest"); see select_tokens.
        count_tokens: count_tokens(parts, config) returns the largest number of visual tokens of an
            image, without loading weights.
        has_views: whether an image may be read in several views, each a grid of its own.
        images_differ: whether images differ in their number of visual tokens.
    """

    load: Callable[[ModelArguments, Mapping[str, Path], Any, Placement], tuple[Backbone, str]]
    count_tokens: Callable[[Mapping[str, Path], Any], int]
    has_views: bool = False
    images_differ: bool = False


FAMILIES = {
    LLAVA15: Family(load_llava15, count_llava15),
    LLAVA_NEXT: Family(load_llava_next, count_llava_next, True, LlavaNext.images_differ),
    QWEN2_5_VL: Family(load_qwen, count_qwen, images_differ=Qwen25Vl.images_differ),
}


def load_backbone(
    args: ModelArguments, parts: Mapping[str, Path], config: CheckpointConfig, place: Placement
) -> tuple[Backbone, str]:
    """Loads the tower and LLM of a checkpoint, of any family; see Family.load.

    Args:
        args: the flags of the model.
        parts: the paths of its parts; see read_model.
        config: its settings.
        place: device and dtype.

    Raises:
        UserError: a part is missing, damaged or of another model.
    """
    return FAMILIES[config.family].load(args, parts, config, place)


def most_tokens(parts: Mapping[str, Path], config: CheckpointConfig) -> int:
    """Returns the largest number of visual tokens of an image, without loading weights.

    Raises:
        UserError: a configuration is damaged.
    """
    return FAMILIES[config.family].count_tokens(parts, config)


def reads_views(config: CheckpointConfig) -> bool:
    """Returns whether a model may read an image in several views."""
    return FAMILIES[config.family].has_views


class Sizes(NamedTuple):
    """The sizes of a model that decide which budgets are possible.

    Attributes:
        num_patches: the largest number N of visual tokens of an image.
        num_layers: of the LLM.
        images_differ: whether images differ in N.
        has_views: whether an image may be read in several views.
    """

    num_patches: int
    num_layers: int
    images_differ: bool
    has_views: bool


def sizes_of(args: ModelArguments) -> Sizes:
    """Returns the sizes of a model, without loading it.

    Raises:
        UserError: a part of the model, or of its compensation, is missing.
    """
    parts, config = read_model(args)
    family, num_layers = FAMILIES[config.family], config.llm.num_hidden_layers
    return Sizes(most_tokens(parts, config), num_layers, family.images_differ, family.has_views)
