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
from llava.images import check_size, to_rgb
from llava.model.backbones.llava15 import Llava15, load_halves
from llava.model.backbones.pixels import Patches
from llava.model.backbones.tiles import (
    TiledTokens,
    TileLayout,
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
from llava.model.multimodal_encoder.builder import count_patches
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.multimodal_encoder.view_values import joined_views
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, View, VisualTokens
from llava.model.prompt_ids import prompt_ids
from llava.model.sample import Sample


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
    size = seen.tower.image_size
    _check_resolutions(config, size, source)
    backbone = LlavaNext(
        seen.tower,
        seen.tokenizer,
        load_tile_processor(parts, config, size),
        language_model,
        newline,
        config.resolutions,
        config.template,
    )
    return backbone, seen.text_selection


def count_llava_next(parts: Mapping[str, Path], config: NextConfig) -> int:
    """Returns the largest number of visual tokens of an image, without loading weights."""
    vision = clip_config(read_config(parts["vision_tower"]), str(parts["vision_tower"]))
    size = vision.vision_config.image_size
    _check_resolutions(config, size, str(parts["model"]))
    num_patches = count_patches(parts["vision_tower"])
    return max(
        layout_of(one, config.resolutions, size, math.isqrt(num_patches)).num_tokens
        for one in config.resolutions
    )


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
        image_processor: images to the pixels of their views.
        newline: (D,), the newline token.
        resolutions: heights and widths in pixels, the best of which an image is scaled to.
        template: the name of the conversation template.

    Attributes:
        largest_size: height and width of an image with the largest N.
    """

    def __init__(
        self,
        tower: ClipTower,
        clip_tokenizer: ClipTokenizer,
        image_processor: LlavaNextImageProcessorPil,
        language_model: LanguageModel,
        newline: Tensor,
        resolutions: Sequence[tuple[int, int]],
        template: str,
    ) -> None:
        super().__init__(tower, clip_tokenizer, image_processor, language_model, "anyres")
        self.image_newline = nn.Parameter(newline, requires_grad=False)
        self.resolutions = list(resolutions)
        self.template = template
        self.largest_size = max(self.resolutions, key=lambda size: size[0] * size[1])
        self._largest = self._layout_of(*self.largest_size)

    def with_language_model(self, language_model: LanguageModel) -> LlavaNext:
        """Returns a backbone that shares all parts with this one except the LLM."""
        return LlavaNext(
            self.tower,
            self.clip_tokenizer,
            self.image_processor,
            language_model,
            self.image_newline,
            self.resolutions,
            self.template,
        )

    @property
    def _side(self) -> int:
        return math.isqrt(self.tower.num_patches)

    def layout(self, image: object = None) -> TileLayout:
        """Returns the views of an image; of anything but an image, those of the largest N."""
        if isinstance(image, TiledTokens) and image.layout is not None:
            return image.layout
        if isinstance(image, Image.Image):
            return self._layout_of(image.height, image.width)
        return self._largest

    def _layout_of(self, height: int, width: int) -> TileLayout:
        return layout_of((height, width), self.resolutions, self.tower.image_size, self._side)

    def views(self, image: object = None) -> tuple[View, ...]:
        """Returns the base view and the tiles of an image; None: of one with the largest N."""
        return self.layout(image).views

    def count_tokens(self, image: object = None) -> int:
        """Returns N of an image, without its newline tokens; None: the largest."""
        return self.layout(image).num_tokens

    def preprocess(self, images: list[Image.Image]) -> list[Patches]:
        """Returns the pixels of the views of B images, with height and width of each."""
        return [self._views_of(image) for image in images]

    def _views_of(self, image: Image.Image) -> Patches:
        check_size(image)
        made = self.image_processor(to_rgb(image), return_tensors="pt")
        return Patches(made["pixel_values"][0], (image.height, image.width))

    def encode_images(
        self, pixels: Sequence[Patches], needs: Needs = OF_IMAGE
    ) -> list[VisualTokens]:
        """Encodes B preprocessed images, each in a pass of its own for all its views."""
        return [self._encode_views(of_image, needs) for of_image in pixels]

    def _encode_views(self, pixels: Patches, needs: Needs) -> TiledTokens:
        height, width = pixels.shape
        layout = self._layout_of(height, width)
        views = self.tower(pixels.values, needs, at_once=True)
        found = vars(joined_views(views, layout.order)) | {"grids": layout.views, "layout": layout}
        if Needs.PROJECTED in needs:
            found["projected"] = self.language_model.project(found["features"])
        return TiledTokens(**found)

    def arrange(self, tokens: Tensor, kept_idx: Tensor, image: VisualTokens) -> Tensor:
        """Returns the kept tokens (K, D) and the newline tokens of their rows; see tiles."""
        return with_newlines(tokens, kept_idx, self.layout(image), self.image_newline)

    def most_positions(self, num_tokens: int, image: object = None) -> int:
        """Returns the largest number of positions of K tokens with their newline tokens."""
        if isinstance(image, (Image.Image, TiledTokens)):
            return num_tokens + most_newlines(num_tokens, self.layout(image))
        tallest = max(height for height, _ in self.resolutions) // self.tower.image_size
        return num_tokens + min(num_tokens, tallest * self._side)

    def prompt_ids(self, sample: Sample, given: Supplement, most: int) -> list[int]:
        """Returns a sample's prompt in the LLM's template, one IMAGE_TOKEN_INDEX in it."""
        tokenizer, history = self.language_model.tokenizer, sample.history
        return prompt_ids(
            sample.question, tokenizer, history, given.text, most, given.heading, self.template
        )
