"""Loads Qwen2.5-VL: tower, LLM, tokenizer, image processor, and CLIP beside the tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accelerate import init_empty_weights
from PIL import Image
from torch import nn
from transformers import Qwen2VLImageProcessorPil
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.files import read_json
from llava.model.backbones.qwen2_5_vl import Qwen25Vl, most_qwen_tokens
from llava.model.language_model.builder import load_llm
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.language_model.qwen_tokenizer import QwenTokenizer
from llava.model.loading.bpe import check_vocabulary
from llava.model.loading.configs import config_errors
from llava.model.loading.llava_config import Tensors
from llava.model.loading.placement import Placement
from llava.model.loading.qwen_config import QwenConfig, read_end_ids, split_qwen
from llava.model.loading.weights import fill, read_checkpoint
from llava.model.multimodal_encoder.qwen_tower import QwenTower
from llava.model.multimodal_encoder.side_tower import load_side_tower


def load_qwen(
    args: ModelArguments,
    parts: Mapping[str, Path],
    config: QwenConfig,
    place: Placement,
    llm_place: Placement | None = None,
) -> tuple[Qwen25Vl, str]:
    """Loads tower and LLM; returns the backbone and the text selection.

    Args:
        args: the flags of the model.
        parts: the paths of its parts.
        config: its settings.
        place: device and dtype.
        llm_place: those of the LLM, where they are others.

    Raises:
        UserError: see load_pretrained_model.
    """
    for flag, is_given in (("--compile", args.compile), (f"--load-{args.bits}", args.bits)):
        if is_given:
            raise UserError(
                f"{flag} is for Llama, and {config.family} has another LLM: leave it out"
            )
    folder, source = parts["model"], str(parts["model"])
    processor = load_qwen_processor(folder, config)
    tokenizer = QwenTokenizer(folder)
    check_vocabulary(tokenizer, config.llm.vocab_size, folder)
    tensors = split_qwen(read_checkpoint(folder), source)
    tower = _load_tower(config, tensors["tower"], source, place)
    llm = load_llm(args, config, tensors["llm"], source, llm_place or place)
    end_ids = read_end_ids(folder) or tokenizer.end_ids
    language_model = LanguageModel(llm, nn.Identity(), tokenizer, end_ids)
    side = load_side_tower(args, parts["side_tower"], place) if "side_tower" in parts else None
    backbone = Qwen25Vl(tower, processor, language_model, side)
    return backbone, args.text_selection or "farthest"


def count_qwen(parts: Mapping[str, Path], config: QwenConfig) -> int:
    """Returns the largest number of tokens of an image, without loading weights."""
    return most_qwen_tokens(load_qwen_processor(parts["model"], config))


def load_qwen_processor(folder: Path, config: QwenConfig) -> Qwen2VLImageProcessorPil:
    """Returns a checkpoint's image processor, by default that of transformers.

    Raises:
        UserError: it is damaged, or makes other patches than the tower reads.
    """
    vision = config.vision
    with config_errors(f"{folder} (preprocessor_config.json)"):
        if (folder / "preprocessor_config.json").is_file():
            read_json(folder / "preprocessor_config.json")
            processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
        else:
            processor = Qwen2VLImageProcessorPil()
        made = processor([Image.new("RGB", (60, 60))], return_tensors="pt")
        width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        if made["pixel_values"].shape[1] != width:
            raise ValueError(
                f"its patches have {made['pixel_values'].shape[1]} values, not {width}"
            )
        if processor.merge_size != vision.spatial_merge_size:
            raise ValueError(f"merge_size is {processor.merge_size}")
        if not made["pixel_values"].isfinite().all() or most_qwen_tokens(processor) < 1:
            raise ValueError("it makes pixels that are not finite, or no tokens")
    return processor


def _load_tower(config: QwenConfig, tensors: Tensors, source: str, place: Placement) -> QwenTower:
    """Builds the vision tower and fills it with its weights."""
    with config_errors(source), init_empty_weights():
        vision = Qwen2_5_VisionTransformerPretrainedModel._from_config(config.vision)
    fill(vision, tensors, f"{source} (vision tower)", place.dtype, place.device_of)
    return QwenTower(vision.to(place.device))
