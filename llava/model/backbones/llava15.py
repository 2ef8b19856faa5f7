"""LLaVA-1.5 (arXiv 2310.03744): CLIP ViT-L/336, an MLP, and Vicuna; 576 tokens for any image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from llava.arguments import ModelArguments
from llava.mm_utils import process_images, square_view
from llava.model.compensation.supplement import Supplement
from llava.model.language_model.builder import load_llama_tokenizer, load_llm
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.loading.llava_config import LlavaConfig, Tensors, split_llava
from llava.model.loading.placement import Placement
from llava.model.loading.weights import read_checkpoint
from llava.model.multimodal_encoder.builder import Vision, count_patches, load_tower
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_questions import embed_questions, embed_segments
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.multimodal_encoder.visual_tokens import (
    OF_IMAGE,
    Needs,
    View,
    VisualTokens,
    if_fewer,
)
from llava.model.multimodal_projector.builder import build_projector
from llava.model.prompt_ids import prompt_ids
from llava.model.sample import Sample
from llava.model.stopwatch import Stopwatch


def load_llava15(
    args: ModelArguments, parts: Mapping[str, Path], config: LlavaConfig, place: Placement
) -> tuple[Llava15, str]:
    """Loads tower, projector and LLM; returns the backbone and the text selection.

    Raises:
        UserError: see load_pretrained_model.
    """
    llava = split_llava(read_checkpoint(parts["model"]), str(parts["model"]))
    seen, language_model = load_halves(args, parts, config, place, llava)
    backbone = Llava15(
        seen.tower, seen.tokenizer, seen.image_processor, language_model, config.image_aspect_ratio
    )
    return backbone, seen.text_selection


def load_halves(
    args: ModelArguments,
    parts: Mapping[str, Path],
    config: LlavaConfig,
    place: Placement,
    llava: Mapping[str, Tensors],
) -> tuple[Vision, LanguageModel]:
    """Loads the vision tower, and the LLM with its projector, of any LLaVA on CLIP and Llama.

    Args:
        args, parts, config, place: see load_backbone.
        llava: the checkpoint's tensors; see split_llava.

    Raises:
        UserError: see load_pretrained_model.
    """
    source = str(parts["model"])
    seen = load_tower(args, config, parts["vision_tower"], llava["tower"], place)
    tokenizer = load_llama_tokenizer(parts["model"], config)
    width = seen.tower.clip.config.vision_config.hidden_size
    projector = build_projector(config, width, llava["projector"], source, place)
    llm = load_llm(args, config, llava["llm"], source, place)
    return seen, LanguageModel(llm, projector, tokenizer, graphs=args.compile)


def count_llava15(parts: Mapping[str, Path], config: LlavaConfig) -> int:
    """Returns the number of the tower's patches, without loading it."""
    return count_patches(parts["vision_tower"])


class Llava15(nn.Module):
    """LLaVA-1.5 as a Backbone: images padded to one square each, Vicuna's template.

    Args:
        tower: CLIP, vision and text.
        clip_tokenizer: CLIP's tokenizer.
        image_processor: images to pixels.
        language_model: projector and Llama.
        image_aspect_ratio: "pad", or None; see process_images.
    """

    gives = ~Needs.NOTHING
    side = None
    has_mrope = False
    images_differ = False

    def __init__(
        self,
        tower: ClipTower,
        clip_tokenizer: ClipTokenizer,
        image_processor: CLIPImageProcessorPil,
        language_model: LanguageModel,
        image_aspect_ratio: str | None = "pad",
    ) -> None:
        super().__init__()
        self.tower = tower
        self.clip_tokenizer = clip_tokenizer
        self.image_processor = image_processor
        self.language_model = language_model
        self.image_aspect_ratio = image_aspect_ratio

    @property
    def clip(self) -> ClipTower:
        """The tower itself: its text side reads questions."""
        return self.tower

    @property
    def embed_dim(self) -> int:
        """The width of CLIP's patches and texts."""
        return self.tower.clip.config.projection_dim

    def with_language_model(self, language_model: LanguageModel) -> Llava15:
        """Returns a backbone that shares all parts with this one except the LLM."""
        return Llava15(
            self.tower,
            self.clip_tokenizer,
            self.image_processor,
            language_model,
            self.image_aspect_ratio,
        )

    def count_tokens(self, image: object = None) -> int:
        """Returns the number of the tower's patches: all images have as many tokens."""
        return self.tower.num_patches

    def views(self, image: object = None) -> tuple[View, ...]:
        """Returns the single grid of an image's tokens."""
        side = math.isqrt(self.tower.num_patches)
        return (View(0, side, side),)

    def picture(self, image: Image.Image, side: int) -> Image.Image:
        """Returns the square that the tower sees of an RGB image, ``side`` pixels wide."""
        return square_view(image, self.image_processor, self.image_aspect_ratio, side)

    def preprocess(self, images: list[Image.Image]) -> Tensor:
        """Returns pixels (B, 3, S, S) float32 on the CPU, as the tower expects them."""
        return process_images(images, self.image_processor, self.image_aspect_ratio)

    def encode_images(
        self,
        pixels: Tensor | Sequence[Tensor],
        needs: Needs = OF_IMAGE,
        watch: Stopwatch | None = None,
    ) -> list[VisualTokens]:
        """Encodes B preprocessed images (3, S, S); gives the features and the needed values."""
        joined = pixels if isinstance(pixels, Tensor) else torch.stack(list(pixels))
        return self._with_projected(self.tower(joined, **if_fewer(needs)), needs)

    def _with_projected(self, images: list[VisualTokens], needs: Needs) -> list[VisualTokens]:
        """Returns images with their features after the projector, if these are needed."""
        if Needs.PROJECTED not in needs:
            return images
        project = self.language_model.project
        return [replace(image, projected=project(image.features)) for image in images]

    def encode_questions(self, questions: Sequence[str]) -> list[Tensor]:
        """Encodes questions, cut to the text tower's length, as (P,) float32 of unit length."""
        return embed_questions(self.tower, self.clip_tokenizer, questions)

    def embed_segments(self, question: str) -> Tensor:
        """Encodes a whole question in segments, (M, P) float32, not normalised."""
        return embed_segments(self.tower, self.clip_tokenizer, question)

    def arrange(self, tokens: Tensor, kept_idx: Tensor, image: VisualTokens) -> Tensor:
        """Returns the kept tokens (K, D) unchanged: nothing is put between them."""
        return tokens

    def most_positions(self, num_tokens: int, image: object = None) -> int:
        """Returns the number K of the tokens themselves."""
        return num_tokens

    def position_ids(self, input_ids: Sequence[int], kept_idx: Tensor, image: VisualTokens) -> None:
        """Returns None: positions count 0, 1, 2."""

    def prompt_ids(self, sample: Sample, given: Supplement, most: int) -> list[int]:
        """Returns a sample's prompt in Vicuna's template, one IMAGE_TOKEN_INDEX in it."""
        tokenizer = self.language_model.tokenizer
        return prompt_ids(
            sample.question, tokenizer, sample.history, given.text, most, given.heading
        )
