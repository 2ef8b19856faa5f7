"""The vision part of LLaVA-NeXT: encodes an image in several views, each as one of LLaVA-1.5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from transformers import LlavaNextImageProcessorPil

from llava.images import check_size, to_rgb
from llava.model.backbones.pixels import Patches
from llava.model.backbones.tiles import Size, TiledTokens, TileLayout, largest_size, layout_of
from llava.model.multimodal_encoder.builder import Vision
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.view_values import joined_views
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, VisualTokens


class ViewEncoder:
    """Turns images into the tokens of their views.

    Args:
        tower: encodes a view.
        image_processor: images to the pixels of their views.
        resolutions: heights and widths in pixels, the best of which an image is scaled to.
        describes_all: whether texts are written of all views, and not of the base view alone.

    Attributes:
        largest_size: height and width of an image with the largest N.
        largest: the views of such an image.
    """

    def __init__(
        self,
        tower: ClipTower,
        image_processor: LlavaNextImageProcessorPil,
        resolutions: Sequence[Size],
        describes_all: bool = False,
    ) -> None:
        self.tower = tower
        self.image_processor = image_processor
        self.resolutions = list(resolutions)
        self.describes_all = describes_all
        self.side = math.isqrt(tower.num_patches)
        self.largest_size = largest_size(self.resolutions)
        self.largest = self._layout_of(self.largest_size)

    def layout(self, image: object = None) -> TileLayout:
        """Returns the views of an image; of anything but an image, those of the largest N.

        Raises:
            UserError: the image has no pixels, or too many.
        """
        if isinstance(image, TiledTokens) and image.layout is not None:
            return image.layout
        if isinstance(image, Image.Image):
            check_size(image)
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

    def encode(self, pixels: Patches, needs: Needs = OF_IMAGE) -> VisualTokens:
        """Encodes a preprocessed image, all its views in one pass."""
        height, width = pixels.shape
        layout = self._layout_of((height, width))
        views = self.tower(pixels.values, needs, at_once=True)
        joined = vars(joined_views(views, layout.order))
        of_views = dict(grids=layout.views, layout=layout, describes_all=self.describes_all)
        return TiledTokens(**joined | of_views)


@dataclass(frozen=True)
class TiledVision(Vision):
    """The vision part of a LLaVA-NeXT checkpoint, for training on its outputs.

    Attributes:
        encoder: encodes images in views.
    """

    encoder: ViewEncoder

    def encode(self, images: Sequence[Image.Image]) -> list[VisualTokens]:
        """Encodes B images; gives their features and OF_IMAGE."""
        pixels = self.encoder.preprocess(images)
        return [self.encoder.encode(of_image) for of_image in pixels]

    @property
    def num_tokens(self) -> int:
        """The largest number N of visual tokens of an image."""
        return self.encoder.largest.num_tokens

    @property
    def describes_all(self) -> bool:
        """Tells whether texts are of all views of an image, and not of the first alone."""
        return self.encoder.describes_all

    @property
    def settings(self) -> dict:
        """Returns what the encoding depends on besides the tower, JSON."""
        return super().settings | {"resolutions": [list(one) for one in self.encoder.resolutions]}
