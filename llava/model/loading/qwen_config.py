"""A Qwen2.5-VL checkpoint as a whole: its config.json, and which part each weight belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)

from llava.errors import UserError, quoted
from llava.files import read_json
from llava.model.loading.configs import (
    CheckpointConfig,
    check_numbers,
    config_errors,
    picked,
    refuse_quantized,
)
from llava.model.loading.llava_config import Tensors
from llava.model.loading.weights import split_parts

QWEN2_5_VL = "Qwen2.5-VL"


@dataclass(frozen=True)
class QwenConfig(CheckpointConfig):
    """The settings in a Qwen2.5-VL checkpoint's config.json.

    Attributes:
        vision: transformers' configuration of the vision tower.
    """

    llm: Qwen2_5_VLTextConfig
    vision: Qwen2_5_VLVisionConfig

    @property
    def has_clip(self) -> bool:
        """Returns False: the tower has neither a CLS token nor a text side."""
        return False


# The fields that define a model; other fields are for other programs.
_LLM_FIELDS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads hidden_act max_position_embeddings initializer_range rms_norm_eps "
    "rope_theta rope_scaling rope_parameters"
).split()
_VISION_FIELDS = (
    "depth hidden_size hidden_act intermediate_size num_heads in_channels patch_size "
    "spatial_merge_size temporal_patch_size window_size out_hidden_size fullatt_block_indexes "
    "initializer_range rope_parameters"
).split()


def read_qwen_config(config: dict, source: str) -> QwenConfig:
    """Parses config.json, where the LLM's fields are nested or not, as transformers writes both.

    Raises:
        UserError: not Qwen2.5-VL, or a value does not fit.
    """
    refuse_quantized(config, source, "bfloat16")
    nested = config.get("text_config")
    with config_errors(source):
        text = config if nested is None else nested
        if text.get("use_sliding_window") or config.get("use_sliding_window"):
            raise ValueError("use_sliding_window is true, which no published checkpoint has")
        is_tied = bool(config.get("tie_word_embeddings") or text.get("tie_word_embeddings"))
        llm = Qwen2_5_VLTextConfig(**picked(text, _LLM_FIELDS), tie_word_embeddings=is_tied)
        vision = Qwen2_5_VLVisionConfig(**picked(config["vision_config"], _VISION_FIELDS))
    for part in (llm, vision):
        check_numbers(part, source)
    with config_errors(source):
        _check_llm(llm)
        _check_vision(vision, llm.hidden_size)
    return QwenConfig(QWEN2_5_VL, llm, None, vision)


def _check_llm(config: Qwen2_5_VLTextConfig) -> None:
    """Raises a ValueError for sizes with which the first question would fail."""
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    if config.hidden_size % heads or heads % shared:
        raise ValueError(
            f"{heads} heads of {config.hidden_size} channels share {shared} heads of keys"
        )
    sections = config.rope_parameters.get("mrope_section")
    if not isinstance(sections, list) or 2 * sum(sections) * heads != config.hidden_size:
        raise ValueError(
            f"mrope_section is {quoted(sections)} for heads of {config.hidden_size // heads}"
        )


def _check_vision(config: Qwen2_5_VLVisionConfig, llm_width: int) -> None:
    """Raises a ValueError for sizes with which the first image would fail."""
    if config.hidden_size % (4 * config.num_heads):
        raise ValueError(f"{config.num_heads} heads share {config.hidden_size} vision channels")
    blocks = list(config.fullatt_block_indexes)
    if not blocks or not all(0 <= block < config.depth for block in blocks):
        raise ValueError(f"fullatt_block_indexes is {quoted(blocks)} for {config.depth} blocks")
    if config.spatial_merge_size < 1 or config.temporal_patch_size < 1:
        raise ValueError("spatial_merge_size and temporal_patch_size must be at least 1")
    if config.window_size < config.patch_size * config.spatial_merge_size:
        raise ValueError(f"window_size is {config.window_size}, less than a token")
    if config.out_hidden_size != llm_width:
        raise ValueError(f"out_hidden_size is {config.out_hidden_size} for an LLM of {llm_width}")


def read_end_ids(folder: Path) -> tuple[int, ...]:
    """Returns the ids that end an answer by generation_config.json; empty if it does not say.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "generation_config.json"
    found = read_json(path).get("eos_token_id") if path.is_file() else None
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(one) is int for one in ids):
        raise UserError(f"{path} has eos_token_id {quoted(found)}: fetch the file again")
    return tuple(ids)


# Keys of a checkpoint -> part and name in it, in the hub's layout and in transformers' own; the
# first match counts.
_KEYS = [
    (r"(model\.)?visual\.", "tower", ""),
    (r"model\.language_model\.", "llm", "model."),
    (r"", "llm", ""),
]
_LANDMARKS = ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight")


def split_qwen(tensors: Tensors, source: str) -> dict[str, dict[str, Tensor]]:
    """Splits a checkpoint's tensors into "llm" and "tower"."""
    return split_parts(tensors, _KEYS, _LANDMARKS, source)
