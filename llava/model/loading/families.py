"""Which model family a checkpoint belongs to, by its config.json, and the settings in there."""

from __future__ import annotations

from collections.abc import Callable

from llava.errors import UserError, quoted
from llava.model.loading.configs import CheckpointConfig
from llava.model.loading.llava_config import LLAVA15, read_llava_config
from llava.model.loading.next_config import LLAVA_NEXT, is_next, read_next_config
from llava.model.loading.qwen_config import QWEN2_5_VL, read_qwen_config

# model_type in config.json -> the family that reads it. The authors of LLaVA call theirs
# llava_llama, as is their LLaVA-NeXT (see is_next); a file without a model_type is one of theirs.
FAMILIES: dict[str | None, str] = {
    None: LLAVA15,
    "llava": LLAVA15,
    "llava_llama": LLAVA15,
    "llava_mistral": LLAVA_NEXT,
    "llava_next": LLAVA_NEXT,
    "qwen2_5_vl": QWEN2_5_VL,
}
_READERS: dict[str, Callable[[dict, str], CheckpointConfig]] = {
    LLAVA15: read_llava_config,
    LLAVA_NEXT: read_next_config,
    QWEN2_5_VL: read_qwen_config,
}

# Relatives that are not supported, by their model_type.
_RELATIVES = {
    "gemma3": "Gemma 3",
    "idefics2": "Idefics2",
    "idefics3": "Idefics3",
    "internvl": "InternVL",
    "internvl_chat": "InternVL, in its authors' layout",
    "llava_next_video": "LLaVA-NeXT-Video",
    "llava_onevision": "LLaVA-OneVision",
    "llava_qwen": "LLaVA on Qwen",
    "mllama": "Llama 3.2 Vision",
    "paligemma": "PaliGemma",
    "qwen2_5_omni": "Qwen2.5-Omni",
    "qwen2_vl": "Qwen2-VL",
    "qwen3_vl": "Qwen3-VL",
    "qwen3_vl_moe": "Qwen3-VL (mixture of experts)",
    "video_llava": "Video-LLaVA",
    "vipllava": "ViP-LLaVA",
}


def read_model_config(config: dict, source: str) -> CheckpointConfig:
    """Returns the settings in a checkpoint's config.json.

    Args:
        config: the file's content.
        source: names the checkpoint in errors.

    Raises:
        UserError: it is no model that is supported, or a value does not fit.
    """
    kind = config.get("model_type")
    supported = ", ".join(dict.fromkeys(FAMILIES.values()))
    if isinstance(kind, str) and kind in _RELATIVES and kind not in FAMILIES:
        raise UserError(
            f"{source} is {_RELATIVES[kind]} (model_type {kind} in its config.json), which is not "
            f"supported: name a checkpoint of {supported}"
        )
    # Some of LLaVA's authors' files have the LLM's model_type.
    if isinstance(kind, str) and kind not in FAMILIES and "mm_projector_type" not in config:
        raise UserError(
            f"{source} has model_type {quoted(kind)} in its config.json, which no supported model "
            f"has: name a checkpoint of {supported}"
        )
    family = FAMILIES.get(kind, LLAVA15) if isinstance(kind, str) else LLAVA15
    if family == LLAVA15 and is_next(config):
        family = LLAVA_NEXT
    return _READERS[family](config, source)
