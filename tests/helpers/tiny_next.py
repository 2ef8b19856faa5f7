"""LLaVA-NeXT checkpoints with random weights, small enough for a test, in both layouts."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    MistralConfig,
)

SIDE, PATCH = 6, 14  # patches and pixels
VIEW = SIDE * PATCH
# The proportions of LLaVA-NeXT's own resolutions.
RESOLUTIONS = [[VIEW * r, VIEW * c] for r, c in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
WORDS = 1200  # of the tokenizer of the tiny LLaVA-1.5
_VISION = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=VIEW,
    patch_size=PATCH,
    projection_dim=48,
)
_LLM = dict(
    vocab_size=WORDS,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_id=2,
)


@dataclass(frozen=True)
class TinyNext:
    """A random LLaVA-NeXT of transformers, and the folders that it is saved in.

    Attributes:
        stock: transformers' model.
        processor: transformers' image processor.
        nested, flat: its folder in transformers' layout, and in that of LLaVA's authors.
        clip: the folder of a CLIP with the same vision tower.
    """

    stock: LlavaNextForConditionalGeneration
    processor: LlavaNextImageProcessorPil
    nested: Path
    flat: Path
    clip: Path


def tiny_next(folder: Path, tokenizer: Path, kind: str = "llama") -> TinyNext:
    """Writes random checkpoints below a folder.

    Args:
        folder: a new one.
        tokenizer: a folder with a SentencePiece tokenizer.
        kind: "llama" or "mistral".
    """
    torch.manual_seed(5)
    text = LlamaConfig(**_LLM) if kind == "llama" else MistralConfig(**_LLM, sliding_window=None)
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**_VISION),
        text_config=text,
        image_grid_pinpoints=RESOLUTIONS,
        image_seq_length=SIDE**2,
    )
    config.image_token_index = WORDS - 1
    stock = LlavaNextForConditionalGeneration._from_config(config, attn_implementation="eager")
    stock = stock.eval().requires_grad_(False)
    spread(stock)
    side = {"height": VIEW, "width": VIEW}
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": VIEW}, crop_size=side, image_grid_pinpoints=RESOLUTIONS
    )
    made = TinyNext(stock, processor, folder / "nested", folder / "flat", folder / "clip")
    stock.save_pretrained(made.nested)
    processor.save_pretrained(made.nested)
    _save_flat(stock, made.flat, kind)
    _save_clip(stock, made.clip)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        for target in (made.nested, made.flat):
            shutil.copy(tokenizer / name, target)
    return made


def spread(model: torch.nn.Module) -> None:
    """Makes random weights larger, so that different inputs give clearly different outputs."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.mul_(4)
            if "image_newline" in name:
                weight.normal_()


def _save_flat(stock: LlavaNextForConditionalGeneration, folder: Path, kind: str) -> None:
    """Writes the layout of LLaVA's authors, without the vision tower."""
    folder.mkdir()
    names = {
        "model.language_model.": "model.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
    }
    tensors = {}
    for key, tensor in stock.state_dict().items():
        for old, new in names.items():
            key = new + key.removeprefix(old) if key.startswith(old) else key
        if not key.startswith("model.vision_tower."):
            tensors[key] = tensor.clone()
    save_file(tensors, folder / "model.safetensors")
    llm = stock.config.text_config.to_dict()
    kept = {key: llm.get(key) for key in (*_LLM, "rms_norm_eps", "hidden_act", "sliding_window")}
    config = kept | {
        "model_type": "llava_mistral" if kind == "mistral" else "llava_llama",
        "image_aspect_ratio": "anyres",
        "image_grid_pinpoints": RESOLUTIONS,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
    }
    (folder / "config.json").write_text(json.dumps(config))


def _save_clip(stock: LlavaNextForConditionalGeneration, folder: Path) -> None:
    """Writes a CLIP whose vision tower is the model's; its text tower is random."""
    text = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
    config = CLIPConfig(
        text_config=text | {"projection_dim": 48, "eos_token_id": 2},
        vision_config=_VISION,
        projection_dim=48,
    )
    clip = CLIPModel(config)
    clip.vision_model.load_state_dict(stock.model.vision_tower.state_dict(), strict=False)
    clip.save_pretrained(folder)
