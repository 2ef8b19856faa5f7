"""A Qwen2.5-VL with random weights, small enough for tests, in transformers' own layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
)

from llava.arguments import ModelArguments
from llava.model.builder import load_from_arguments
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Sample

QUESTION = "What is this?"
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Tokens of an image at most; a side of a token is 28 pixels.
MOST = 64


def make_tiny_qwen(folder: Path, tied: bool = False) -> Qwen2_5_VLForConditionalGeneration:
    """Writes a checkpoint; returns transformers' model of it."""
    ids = _write_tokenizer(folder)
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=272,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 3, 3]),
            bos_token_id=None,
            eos_token_id=None,
        ),
        vision_config=dict(
            depth=4,
            hidden_size=32,
            intermediate_size=48,
            num_heads=2,
            window_size=56,
            out_hidden_size=64,
            fullatt_block_indexes=[1, 3],
        ),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            is_matrix = parameter.ndim > 1
            parameter.copy_(torch.randn_like(parameter) * (0.15 if is_matrix else 0.1))
            if not is_matrix:
                parameter += 0.8
    model.save_pretrained(folder)
    size = dict(shortest_edge=4 * 28 * 28, longest_edge=MOST * 28 * 28)
    Qwen2VLImageProcessorPil(size=size).save_pretrained(folder)
    ends = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return model


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """Writes a tokenizer of single bytes; returns the ids of its special tokens."""
    tokenizer = Qwen2Tokenizer({word: i for i, word in enumerate(sorted(ByteLevel.alphabet()))}, [])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.save_pretrained(folder)
    return {word: tokenizer.convert_tokens_to_ids(word) for word in SPECIAL}


def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """Returns an image of coloured stripes and noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = np.sin(rows / (7 + seed))[..., None] + np.cos(columns / 11)[..., None]
    noise = random.normal(size=(height, width, 3)) / 2
    return Image.fromarray(((waves + noise) * 40 + 128).clip(0, 255).astype(np.uint8))


def load_tiny_qwen(folder: Path, **settings) -> LlavaAccm:
    """Loads a checkpoint on the CPU, by default without a compensation."""
    settings = dict(compensation="none", device="cpu") | settings
    return load_from_arguments(ModelArguments(str(folder), **settings))


def sample_of(size: tuple[int, int], question: str = QUESTION, seed: int = 0, **settings) -> Sample:
    """Returns a question about an image of a width and height."""
    settings = dict(max_new_tokens=4) | settings
    return Sample(drawn(*size, seed=seed), question, **settings)


def full(size: tuple[int, int], **settings) -> Sample:
    """Returns the same with all visual tokens."""
    return sample_of(size, pruner="none", **settings)
