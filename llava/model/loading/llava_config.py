"""A LLaVA-1.5 checkpoint as a whole: its config.json, and which part each weight belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import LlamaConfig

from llava.errors import UserError, quoted
from llava.model.loading.configs import (
    CheckpointConfig,
    check_numbers,
    config_errors,
    picked,
    refuse_quantized,
)
from llava.model.loading.weights import split_parts

LLAVA15 = "LLaVA-1.5"
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class LlavaConfig(CheckpointConfig):
    """The settings in a LLaVA-1.5 checkpoint's config.json, in either layout.

    Attributes:
        projector_type: LLaVA's name of it.
        select_layer: hidden state of the tower that the projector reads.
        image_aspect_ratio: "pad" or None; "anyres" for LLaVA-NeXT.
        text_selection: "farthest" or "nearest"; see select_tokens.
        patch_post_layernorm: see ClipTower.
    """

    llm: LlamaConfig
    projector_type: str
    select_layer: int
    image_aspect_ratio: str | None
    text_selection: str
    patch_post_layernorm: bool


LLAMA_FIELDS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads hidden_act max_position_embeddings initializer_range rms_norm_eps "
    "rope_theta rope_scaling rope_parameters attention_bias mlp_bias head_dim tie_word_embeddings"
).split()


def read_llava_config(config: dict, source: str) -> LlavaConfig:
    """Parses both layouts: the authors' (``mm_*`` keys) and transformers' (nested).

    Raises:
        UserError: not LLaVA-1.5.
    """
    nested = is_nested(config, LLAVA15, source)
    check_variant(config, _NESTED_VARIANT if nested else _FLAT_VARIANT, LLAVA15, source)
    llm = config["text_config"] if nested else config
    with config_errors(source):
        check_variant(llm if nested else {}, {"model_type": ("llama", None)}, LLAVA15, source)
        llama = LlamaConfig(**picked(llm, LLAMA_FIELDS))
    aspect_ratio = config.get("image_aspect_ratio", "pad" if nested else None)
    return LlavaConfig(
        **shared_settings(config, nested, llama, source),
        family=LLAVA15,
        image_aspect_ratio="pad" if aspect_ratio == "pad" else None,
    )


def is_nested(config: dict, family: str, source: str) -> bool:
    """Returns whether a config.json is in transformers' layout, and not in that of LLaVA's authors.

    Raises:
        UserError: it is in neither.
    """
    nested = "text_config" in config
    if not nested and "mm_projector_type" not in config:
        raise UserError(
            f"{source} is not a {family} checkpoint, nor one of another family: its config.json "
            "has neither mm_projector_type (the authors' layout of LLaVA), nor text_config and "
            "model_type (transformers' layout)"
        )
    return nested


def shared_settings(config: dict, nested: bool, llm: LlamaConfig, source: str) -> dict[str, Any]:
    """Returns the fields of LlavaConfig that all LLaVAs state alike, checked, by their names.

    Raises:
        UserError: the checkpoint is quantised, or a value does not fit.
    """
    refuse_quantized(config, source, "float16 or bfloat16")
    select_layer = config.get("vision_feature_layer" if nested else "mm_vision_select_layer", -2)
    post_layernorm = config.get("accm_patch_post_layernorm", True)
    vision_tower = config.get("mm_vision_tower")
    with config_errors(source):
        for name, value, kind in (
            ("select layer", select_layer, int),
            ("accm_patch_post_layernorm", post_layernorm, bool),
            ("mm_vision_tower", vision_tower, (str, type(None))),
        ):
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise TypeError(f"{name} is {quoted(value)}")
    _check_llm(llm, source)
    return {
        "llm": llm,
        "vision_tower": vision_tower or None,
        "projector_type": "mlp2x_gelu" if nested else config["mm_projector_type"],
        "select_layer": select_layer,
        "text_selection": config.get("accm_text_selection", "farthest"),
        "patch_post_layernorm": post_layernorm,
    }


def _check_llm(config: LlamaConfig, source: str) -> None:
    """Refuses sizes with which Llama could be built, but would fail at the first question."""
    check_numbers(config, source)
    with config_errors(source):
        groups = config.num_attention_heads / config.num_key_value_heads
        if groups % 1 or config.head_dim % 2:
            raise ValueError(
                f"{config.num_attention_heads} heads of {config.head_dim} channels share "
                f"{config.num_key_value_heads} heads of keys"
            )
        factor = config.rope_parameters.get("factor", 1)
        if factor < 1:
            raise ValueError(f"the factor of rope_scaling is {factor}")


# LLaVA-1.5's values, by the key of config.json that could state another.
_FLAT_VARIANT = {
    "image_aspect_ratio": ("pad", "square", None),
    "mm_vision_select_feature": ("patch", None),
    "mm_use_im_start_end": (False, None),
}
_NESTED_VARIANT = {
    "model_type": ("llava", None),
    "image_aspect_ratio": ("pad", "square", None),
    "vision_feature_select_strategy": ("default", None),
    "projector_hidden_act": ("gelu", None),
}


def check_variant(config: dict, known: dict[str, tuple], family: str, source: str) -> None:
    """Refuses a variant of a family that this code would misread.

    Raises:
        UserError: a value is none of the known ones.
    """
    for key, values in known.items():
        if config.get(key) not in values:
            raise UserError(
                f"{source} has {key} {quoted(config.get(key))}; {family} has {values[0]!r}, "
                "and no other is supported"
            )


# Keys of a LLaVA checkpoint -> part and name in it, in both layouts; the first match counts.
_LLAVA_KEYS = [
    (r"model\.mm_projector\.", "projector", ""),
    (r"(model\.)?multi_modal_projector\.linear_1\.", "projector", "0."),
    (r"(model\.)?multi_modal_projector\.linear_2\.", "projector", "2."),
    (r"(model\.)?vision_tower\.(vision_tower\.)?(vision_model\.)?", "tower", ""),
    (r"model\.language_model\.", "llm", "model."),
    (r"language_model\.", "llm", ""),
    (r"", "llm", ""),
]
_LLAVA_LANDMARKS = [
    f"{name}.embed_tokens.weight"
    for name in ("language_model.model", "model.language_model", "model")
]


def split_llava(tensors: Tensors, source: str) -> dict[str, dict[str, Tensor]]:
    """Splits a LLaVA checkpoint's tensors into "llm", "projector" and "tower" (may be empty)."""
    return split_parts(tensors, _LLAVA_KEYS, _LLAVA_LANDMARKS, source)
