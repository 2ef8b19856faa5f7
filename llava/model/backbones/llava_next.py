"""LLaVA-NeXT (LLaVA v1.6): LLaVA-1.5 that reads an image in several views, each of 576 patches.

The same CLIP ViT-L/336 and MLP, with Vicuna or Mistral. A learnt newline token stands behind each
row of the grid of tiles; see llava.model.backbones.tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor, nn
from transformers import LlavaNextImageProcessorPil

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.files import read_json
from llava.model.backbones.llava15 import Llava15, load_halves
from llava.model.backbones.pixels import Patches
from llava.model.backbones.tiled_vision import TiledVision, ViewEncoder
from llava.model.backbones.tiles import (
    TiledTokens,
    TileLayout,
    largest_size,
    layout_of,
    most_newlines,
    with_newlines,
)
from llava.model.compensation.supplement import Supplement
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.loading.configs import clip_config, config_errors, read_config
from llava.model.loading.llava_config import split_llava
from llava.model.loading.next_config import NextConfig, take_newline
from llava.model.loading.placement import Placement
from llava.model.loading.weights import read_checkpoint
from llava.model.multimodal_encoder.builder import Vision, count_patches
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, View, VisualTokens
from llava.model.prompt_ids import prompt_ids
from llava.model.sample import Sample
from llava.model.stopwatch import Stopwatch


def load_llava_next(
    args: ModelArguments, parts: Mapping[str, Path], config: NextConfig, place: Placement
) -> tuple[LlavaNext, str]:
    """Loads tower, projector, newline token and LLM; returns the backbone and the text selection.

    Raises:
        UserError: see load_pretrained_model.
    """
    source = str(parts["model"])
    llava = split_llava(read_checkpoint(parts["model"]), source)
    newline = take_newline(llava["llm"], config, source, place)
    seen, language_model = load_halves(args, parts, config, place, llava)
    encoder = _view_encoder(seen.tower, parts, config)
    backbone = LlavaNext(
        seen.tower, seen.tokenizer, encoder, language_model, newline, config.template
    )
    return backbone, seen.text_selection


def tiled_vision(seen: Vision, parts: Mapping[str, Path], config: NextConfig) -> TiledVision:
    """Returns the vision part of a checkpoint that encodes images in views."""
    return TiledVision(**vars(seen), encoder=_view_encoder(seen.tower, parts, config))


def _view_encoder(tower: ClipTower, parts: Mapping[str, Path], config: NextConfig) -> ViewEncoder:
    """Returns what turns images into the tokens of their views."""
    _check_resolutions(config, tower.image_size, str(parts["model"]))
    processor = load_tile_processor(parts, config, tower.image_size)
    return ViewEncoder(tower, processor, config.resolutions, config.describes_all)


def count_llava_next(parts: Mapping[str, Path], config: NextConfig) -> int:
    """Returns the largest number of visual tokens of an image, without loading weights."""
    vision = clip_config(read_config(parts["vision_tower"]), str(parts["vision_tower"]))
    size = vision.vision_config.image_size
    _check_resolutions(config, size, str(parts["model"]))
    side = math.isqrt(count_patches(parts["vision_tower"]))
    largest = largest_size(config.resolutions)
    return layout_of(largest, config.resolutions, size, side).num_tokens


def _check_resolutions(config: NextConfig, image_size: int, source: str) -> None:
    """Refuses resolutions that cannot be cut into views of the tower."""
    for size in config.resolutions:
        if size[0] % image_size or size[1] % image_size:
            raise UserError(
                f"{source} has the resolution {size[0]} x {size[1]} in image_grid_pinpoints, and "
                f"its vision tower reads squares of {image_size}: they are not of the same model"
            )


def load_tile_processor(
    parts: Mapping[str, Path], config: NextConfig, image_size: int
) -> LlavaNextImageProcessorPil:
    """Returns the image processor of the checkpoint; without a file there, by CLIP's settings.

    Raises:
        UserError: its file is damaged, or does not fit the tower or config.json.
    """
    files = (parts[part] / "preprocessor_config.json" for part in ("model", "vision_tower"))
    file = next((file for file in files if file.is_file()), None)
    pinpoints = [list(size) for size in config.resolutions]
    side = {"height": image_size, "width": image_size}
    settings: dict = {"size": {"shortest_edge": image_size}, "crop_size": side}
    with config_errors(str(file or parts["model"])):
        if file is not None:
            settings = read_json(file)
            known = settings.get("image_grid_pinpoints", pinpoints)
            if known != pinpoints:
                raise ValueError(f"image_grid_pinpoints is {known}, and {pinpoints} in config.json")
        processor = LlavaNextImageProcessorPil.from_dict(
            settings | {"image_grid_pinpoints": pinpoints}
        )
        made = processor(Image.new("RGB", (2, 2)), return_tensors="pt")["pixel_values"]
        if made.shape[2:] != (3, image_size, image_size):
            raise ValueError(f"makes images of {made.shape[-1]} pixels for a tower of {image_size}")
        if not made.isfinite().all():
            raise ValueError("makes pixels that are not finite")
    return processor


class LlavaNext(Llava15):
    """LLaVA-NeXT as a Backbone.

    Args:
        tower, clip_tokenizer, language_model: see Llava15.
        encoder: images to the tokens of their views, by the tower.
        newline: (D,), the newline token.
        template: the name of the conversation template.
    """

    images_differ = True

    def __init__(
        self,
        tower: ClipTower,
        clip_tokenizer: ClipTokenizer,
        encoder: ViewEncoder,
        language_model: LanguageModel,
        newline: Tensor,
        template: str,
    ) -> None:
        super().__init__(tower, clip_tokenizer, encoder.image_processor, language_model, "anyres")
        self.encoder = encoder
        self.image_newline = nn.Parameter(newline, requires_grad=False)
        self.template = template

    def with_language_model(self, language_model: LanguageModel) -> LlavaNext:
        """Returns a backbone that shares all parts with this one except the LLM."""
        return LlavaNext(
            self.tower,
            self.clip_tokenizer,
            self.encoder,
            language_model,
            self.image_newline,
            self.template,
        )

    @property
    def largest_size(self) -> tuple[int, int]:
        """Height and width of an image with the largest N."""
        return self.encoder.largest_size

    def layout(self, image: object = None) -> TileLayout:
        """Returns the views of an image; of anything but an image, those of the largest N."""
        return self.encoder.layout(image)

    def views(self, image: object = None) -> tuple[View, ...]:
        """Returns the base view and the tiles of an image; None: of one with the largest N."""
        return self.layout(image).views

    def count_tokens(self, image: object = None) -> int:
        """Returns N of an image, without its newline tokens; None: the largest."""
        return self.layout(image).num_tokens

    def preprocess(self, images: list[Image.Image]) -> list[Patches]:
        """Returns the pixels of the views of B images, with height and width of each."""
        return self.encoder.preprocess(images)

    def encode_images(
        self,
        pixels: Sequence[Patches],
        needs: Needs = OF_IMAGE,
        watch: Stopwatch | None = None,
    ) -> list[VisualTokens]:
        """Encodes B preprocessed images, each in a pass of its own for all its views."""
        images = [self.encoder.encode(of_image, needs) for of_image in pixels]
        return self._with_projected(images, needs)

    def arrange(self, tokens: Tensor, kept_idx: Tensor, image: VisualTokens) -> Tensor:
        """Returns the kept tokens (K, D) and the newline tokens of their rows; see tiles."""
        return with_newlines(tokens, kept_idx, self.layout(image), self.image_newline)

    def most_positions(self, num_tokens: int, image: object = None) -> int:
        """Returns the largest number of positions of K tokens with their newline tokens."""
        if isinstance(image, (Image.Image, TiledTokens)):
            return num_tokens + most_newlines(num_tokens, self.layout(image))
        tallest = max(height for height, _ in self.encoder.resolutions) // self.tower.image_size
        return num_tokens + min(num_tokens, tallest * self.encoder.side)

    def prompt_ids(self, sample: Sample, given: Supplement, most: int) -> list[int]:
        """Returns a sample's prompt in the LLM's template, one IMAGE_TOKEN_INDEX in it."""
        tokenizer, history = self.language_model.tokenizer, sample.history
        return prompt_ids(
            sample.question, tokenizer, history, given.text, most, given.heading, self.template
        )
