"""Qwen2.5-VL (arXiv 2502.13923): a tower at native resolution, and an LLM with M-RoPE.

The visual tokens are those that the LLM reads, four patches each; the tower's own merger is the
projector. Every image has as many as its size gives, in one grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from PIL import Image
from torch import Tensor, nn
from transformers import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from llava.constants import IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.images import check_size, to_rgb
from llava.model.backbones.pixels import Patches
from llava.model.compensation.supplement import Supplement
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.language_model.qwen import mrope_positions
from llava.model.language_model.qwen_tokenizer import QwenTokenizer
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_questions import embed_questions, embed_segments
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.multimodal_encoder.qwen_tower import GIVEN, QwenTower
from llava.model.multimodal_encoder.side_tower import (
    CLIP_GIVES,
    OF_CLIP,
    SideTower,
)
from llava.model.multimodal_encoder.visual_tokens import (
    OF_IMAGE,
    Needs,
    View,
    VisualTokens,
    needed,
)
from llava.model.qwen_prompt_ids import qwen_prompt_ids
from llava.model.sample import Sample
from llava.model.stopwatch import Stopwatch

MAX_RATIO = 200  # of an image's sides; transformers' processor refuses more


def most_qwen_tokens(processor: Qwen2VLImageProcessorPil) -> int:
    """Returns the largest number of tokens of an image."""
    return processor.size["longest_edge"] // (processor.patch_size * processor.merge_size) ** 2


class Qwen25Vl(nn.Module):
    """Qwen2.5-VL as a Backbone.

    Args:
        tower: its vision tower.
        image_processor: images to patches.
        language_model: the LLM, with its tokenizer.
        side: CLIP beside the tower, if there is one.
    """

    image_aspect_ratio = None
    has_mrope = True
    images_differ = True

    def __init__(
        self,
        tower: QwenTower,
        image_processor: Qwen2VLImageProcessorPil,
        language_model: LanguageModel,
        side: SideTower | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.image_processor = image_processor
        self.language_model = language_model
        self.side = side

    @property
    def clip(self) -> ClipTower | None:
        """CLIP beside the tower."""
        return None if self.side is None else self.side.clip

    @property
    def clip_tokenizer(self) -> ClipTokenizer | None:
        """The tokenizer of CLIP's text side."""
        return None if self.side is None else self.side.tokenizer

    @property
    def gives(self) -> Needs:
        """The values that tower, LLM and side tower can compute."""
        own = GIVEN | Needs.PROJECTED | Needs.WORDS
        return own | (Needs.PATCH_EMBEDS if self.side is None else CLIP_GIVES)

    @property
    def embed_dim(self) -> int:
        """The width of what captions are written from: CLIP's patches, or the tokens themselves."""
        if self.side is None:
            return self.tower.vision.config.out_hidden_size
        return self.side.clip.clip.config.projection_dim

    def with_language_model(self, language_model: LanguageModel) -> Qwen25Vl:
        """Returns a backbone that shares all parts with this one except the LLM."""
        return Qwen25Vl(self.tower, self.image_processor, language_model, self.side)

    def count_tokens(self, image: object = None) -> int:
        """Returns the number N of visual tokens of an image; None: the largest of any image."""
        (view,) = self.views(image)
        return view.rows * view.columns

    def views(self, image: object = None) -> tuple[View, ...]:
        """Returns the single grid of an image's tokens; None: a line of the most tokens."""
        if isinstance(image, VisualTokens):
            return image.views
        if not isinstance(image, Image.Image):
            return (View(0, 1, most_qwen_tokens(self.image_processor)),)
        return (View(0, *self._grid(image)),)

    def picture(self, image: Image.Image, side: int) -> Image.Image:
        """Returns an RGB image in the proportions in which the tower sees it."""
        (view,) = self.views(image)
        longer = max(view.rows, view.columns)
        return image.resize((round(side * view.columns / longer), round(side * view.rows / longer)))

    def preprocess(self, images: list[Image.Image]) -> list[Patches]:
        """Returns the patches (n, d) of B images, float32 on the CPU, with their grids."""
        return [self._patches(image) for image in images]

    def _patches(self, image: Image.Image) -> Patches:
        self._grid(image)  # refuses sizes that the processor does not take
        rgb = image if image.mode == "RGB" else to_rgb(image)
        made = self.image_processor([rgb], return_tensors="pt")
        beside = None if self.side is None else self.side.preprocess(rgb)
        grid = tuple(made["image_grid_thw"][0].tolist())
        return Patches(made["pixel_values"], grid, beside, (rgb.height, rgb.width))

    def _grid(self, image: Image.Image) -> tuple[int, int]:
        """Returns the rows and columns of an image's visual tokens.

        Raises:
            UserError: the image is too narrow, or has no pixels or too many.
        """
        shorter, longer = sorted(image.size)
        if longer > MAX_RATIO * shorter:
            raise UserError(
                f"the image is {image.width} x {image.height} pixels, and Qwen2.5-VL reads images "
                f"whose longer side is at most {MAX_RATIO} times the shorter one: cut it into parts"
            )
        check_size(image)
        processor = self.image_processor
        side = processor.patch_size * processor.merge_size
        limits = (processor.size["shortest_edge"], processor.size["longest_edge"])
        height, width = smart_resize(image.height, image.width, side, *limits)
        return height // side, width // side

    def encode_images(
        self,
        pixels: Sequence[Patches],
        needs: Needs = OF_IMAGE,
        watch: Stopwatch | None = None,
    ) -> list[VisualTokens]:
        """Encodes preprocessed images, with the needed values in addition to the features.

        Args:
            pixels: B of them.
            needs: the values, as far as the model gives them.
            watch: receives the time of the side tower.
        """
        images = self.tower(pixels, needs)
        if Needs.PROJECTED in needs:
            images = [replace(image, projected=image.features) for image in images]
        if self.side is None and Needs.PATCH_EMBEDS in needs:
            return [replace(image, patch_embeds=image.features) for image in images]
        if self.side is None or not needs & OF_CLIP:
            return images
        watch = watch or Stopwatch(self.tower.device)
        with watch.stage("side tower"):
            return [
                self.side.complete(image, needed(of.side), of.size, needs)
                for image, of in zip(images, pixels)
            ]

    def encode_questions(self, questions: Sequence[str]) -> list[Tensor]:
        """Encodes questions by CLIP's text tower, cut to its length, as (P,) of unit length."""
        side = self._required_side
        return embed_questions(side.clip, side.tokenizer, questions)

    def embed_segments(self, question: str) -> Tensor:
        """Encodes a whole question by CLIP's text tower in segments, (M, P) float32."""
        side = self._required_side
        return embed_segments(side.clip, side.tokenizer, question)

    @property
    def _required_side(self) -> SideTower:
        if self.side is None:
            raise UserError(
                "Qwen2.5-VL encodes no questions by itself: name CLIP beside it with --side-tower"
            )
        return self.side

    def arrange(self, tokens: Tensor, kept_idx: Tensor, image: VisualTokens) -> Tensor:
        """Returns the kept tokens (K, D) unchanged: nothing is put between them."""
        return tokens

    def most_positions(self, num_tokens: int, image: object = None) -> int:
        """Returns the positions of an image: K, or more, as the text continues behind all of it."""
        if isinstance(image, (Image.Image, VisualTokens)):
            (view,) = self.views(image)
            return max(num_tokens, view.rows, view.columns)
        return max(num_tokens, math.isqrt(MAX_RATIO * most_qwen_tokens(self.image_processor)))

    def position_ids(
        self, input_ids: Sequence[int], kept_idx: Tensor, image: VisualTokens
    ) -> Tensor:
        """Returns the positions (3, L) of a prompt in M-RoPE; see mrope_positions."""
        before = input_ids.index(IMAGE_TOKEN_INDEX)
        after = len(input_ids) - before - 1
        return mrope_positions(before, image.views[0], kept_idx, after)

    def prompt_ids(self, sample: Sample, given: Supplement, most: int) -> list[int]:
        """Returns a sample's prompt in the checkpoint's template, one IMAGE_TOKEN_INDEX in it."""
        tokenizer = cast(QwenTokenizer, self.language_model.tokenizer)
        return qwen_prompt_ids(
            sample.question, tokenizer, sample.history, given.text, most, given.heading
        )
