"""CLIP beside a vision tower of another kind: what captions and some pruners read, by place.

CLIP sees the image as LLaVA-1.5 shows it, padded to a square. A token of the model gets the values
of the CLIP patch at its centre; a CLIP patch has the place of the token at its own centre, and none
if it lies in the padding.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.mm_utils import process_images, send
from llava.model.loading.configs import read_config
from llava.model.loading.placement import Placement
from llava.model.loading.weights import read_checkpoint
from llava.model.multimodal_encoder.builder import build_clip, load_clip_tokenizer, load_processor
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.multimodal_encoder.visual_tokens import (
    Needs,
    View,
    VisualTokens,
    fields_of,
    needed,
)

# The values of an image's tokens that CLIP can give, and those of a question.
OF_CLIP = Needs.PATCH_EMBEDS | Needs.CLS_ATTENTION | Needs.FEATURE_EMBEDS
CLIP_GIVES = OF_CLIP | Needs.QUESTION | Needs.TEXT_EMBEDS


class SideTower(nn.Module):
    """CLIP, vision and text, with its tokenizer and image processor.

    Args:
        clip: the towers.
        tokenizer: of the text tower.
        processor: images to CLIP's pixels.
    """

    def __init__(
        self, clip: ClipTower, tokenizer: ClipTokenizer, processor: CLIPImageProcessorPil
    ) -> None:
        super().__init__()
        self.clip = clip
        self.tokenizer = tokenizer
        self.processor = processor

    def preprocess(self, image: Image.Image) -> Tensor:
        """Returns the pixels (3, S, S) of an RGB image, padded to a square."""
        return process_images([image], self.processor, "pad")[0]

    def complete(
        self, image: VisualTokens, pixels: Tensor, size: tuple[int, int], needs: Needs
    ) -> VisualTokens:
        """Returns an image with what CLIP gives: the needed values of tokens, and CLIP's patches.

        Args:
            image: the model's own tokens, in one grid.
            pixels: (3, S, S).
            size: height and width of the image in pixels.
            needs: as far as CLIP gives them.
        """
        wanted = needs & OF_CLIP
        (seen,) = self.clip(pixels[None], wanted)
        (view,), (patches,) = image.views, seen.views
        token_idx, patch_idx = places(view, patches, size)
        idx = send(patch_idx, self.clip.device)
        values = {name: needed(getattr(seen, name))[idx] for name in fields_of(wanted)}
        return replace(
            image, **values, side_embeds=seen.patch_embeds, side_idx=token_idx, patch_idx=patch_idx
        )


def places(view: View, patches: View, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns the token at the centre of each CLIP patch, and the patch at that of each token.

    Args:
        view: the grid of the tokens over the whole image.
        patches: the grid of CLIP's patches over the square that the image is padded to.
        size: height and width of the image in pixels.

    Returns:
        (M,) int64, -1 for a patch whose centre lies in the padding; and (N,) int64.
    """
    side, tokens, squares = max(size), (view.rows, view.columns), (patches.rows, patches.columns)
    to_token, to_patch = [], []
    for length, num_tokens, num_patches in zip(size, tokens, squares):
        start = (side - length) // 2
        centre = (2 * torch.arange(num_patches) + 1) * side / (2 * num_patches) - start
        place = (centre * num_tokens / length).floor().long()
        to_token.append(place.where((centre >= 0) & (centre < length), torch.tensor(-1)))
        centre = (2 * torch.arange(num_tokens) + 1) * length / (2 * num_tokens) + start
        to_patch.append((centre * num_patches / side).floor().long())
    rows, columns = to_token[0][:, None], to_token[1]
    token_idx = (rows * view.columns + columns).where((rows >= 0) & (columns >= 0), -1)
    patch_idx = to_patch[0][:, None] * patches.columns + to_patch[1]
    return token_idx.flatten(), patch_idx.flatten()


def load_side_tower(args: ModelArguments, folder: Path, place: Placement) -> SideTower:
    """Loads CLIP from its folder.

    Raises:
        UserError: it is not CLIP with both towers, or damaged.
    """
    clip = build_clip(read_config(folder), read_checkpoint(folder), str(folder), place)
    if clip.config.vision_config.num_hidden_layers < 2:
        raise UserError(f"{folder} has a vision tower of one layer: name CLIP ViT-L/14-336")
    is_normed = args.patch_post_layernorm is not False
    tower = ClipTower(clip, is_normed)
    tokenizer = load_clip_tokenizer(tower, folder)
    return SideTower(tower, tokenizer, load_processor(folder, tower.image_size))
