"""The vision part of LLaVA-NeXT: encodes images in several views, each with the tower of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from transformers import LlavaNextImageProcessorPil

from llava.images import check_size, to_rgb
from llava.model.backbones.pixels import Patches
from llava.model.backbones.tiles import Size, TiledTokens, TileLayout, layout_of
from llava.model.multimodal_encoder.builder import Vision
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.view_values import joined_views
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, VisualTokens, if_fewer


class ViewEncoder:
    """Turns images into the tokens of their views.

    Args:
        tower: encodes a view.
        image_processor: images to the pixels of their views.
        resolutions: heights and widths in pixels, the best of which an image is scaled to.
    """

    def __init__(
        self,
        tower: ClipTower,
        image_processor: LlavaNextImageProcessorPil,
        resolutions: Sequence[Size],
    ) -> None:
        self.tower = tower
        self.image_processor = image_processor
        self.resolutions = list(resolutions)
        self.side = math.isqrt(tower.num_patches)
        height, width = max(resolutions, key=lambda size: size[0] * size[1])
        self.largest = TileLayout(self.side, height // tower.image_size, width // tower.image_size)

    def layout(self, image: object = None) -> TileLayout:
        """Returns the views of an image; of anything but an image, those of the largest N."""
        if isinstance(image, TiledTokens) and image.layout is not None:
            return image.layout
        if isinstance(image, Image.Image):
            return self._layout_of((image.height, image.width))
        return self.largest

    def _layout_of(self, size: Size) -> TileLayout:
        return layout_of(size, self.resolutions, self.tower.image_size, self.side)

    def preprocess(self, images: Sequence[Image.Image]) -> list[Patches]:
        """Returns the pixels of the views of B images, with height and width of each."""
        return [self._views_of(image) for image in images]

    def _views_of(self, image: Image.Image) -> Patches:
        check_size(image)
        made = self.image_processor(to_rgb(image), return_tensors="pt")
        return Patches(made["pixel_values"][0], (image.height, image.width))

    def encode(self, pixels: Sequence[Patches], needs: Needs = OF_IMAGE) -> list[VisualTokens]:
        """Encodes B preprocessed images, each in a pass of its own for all its views."""
        return [self._encode_views(of_image, needs) for of_image in pixels]

    def _encode_views(self, pixels: Patches, needs: Needs) -> TiledTokens:
        views = self.tower(pixels.values, **if_fewer(needs))
        height, width = pixels.shape
        layout = self._layout_of((height, width))
        joined = vars(joined_views(views, layout.order))
        return TiledTokens(**joined | {"grids": layout.views, "layout": layout})


@dataclass(frozen=True)
class TiledVision(Vision):
    """The vision part of a LLaVA-NeXT checkpoint, for training on its outputs.

    Attributes:
        encoder: encodes images in views.
    """

    encoder: ViewEncoder

    def encode(self, images: Sequence[Image.Image]) -> list[VisualTokens]:
        """Encodes B images; gives their features and OF_IMAGE."""
        return self.encoder.encode(self.encoder.preprocess(images))

    @property
    def num_tokens(self) -> int:
        """The largest number N of visual tokens of an image."""
        return self.encoder.largest.num_tokens

    @property
    def settings(self) -> dict:
        """What the encoding depends on besides the tower, JSON."""
        return super().settings | {"resolutions": [list(one) for one in self.encoder.resolutions]}
