"""The model families: how a checkpoint becomes a Backbone. To add one, add a line here.

``llava.model.loading.families`` tells the family of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.arguments import ModelArguments
from llava.model.backbones.backbone import Backbone
from llava.model.backbones.llava15 import count_llava15, load_llava15
from llava.model.backbones.llava_next import count_llava_next, load_llava_next
from llava.model.loading.configs import CheckpointConfig
from llava.model.loading.llava_config import LLAVA15
from llava.model.loading.next_config import LLAVA_NEXT
from llava.model.loading.placement import Placement


@dataclass(frozen=True)
class Family:
    """How the checkpoints of a family are loaded.

    Attributes:
        load: load(args, parts, config, place) returns a Backbone, and how the question picks
            patches ("farthest" or "nearest"); see select_tokens.
        count_tokens: count_tokens(parts, config) returns the largest number of visual tokens of an
            image, without loading weights.
    """

    load: Callable[[ModelArguments, Mapping[str, Path], Any, Placement], tuple[Backbone, str]]
    count_tokens: Callable[[Mapping[str, Path], Any], int]


FAMILIES = {
    LLAVA15: Family(load_llava15, count_llava15),
    LLAVA_NEXT: Family(load_llava_next, count_llava_next),
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
