"""Loads the CLIP tower with its tokenizer and image processor from their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import init_empty_weights
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

from llava.arguments import ModelArguments
from llava.errors import UserError, quoted
from llava.files import read_json
from llava.mm_utils import process_images
from llava.model.loading.bpe import check_vocabulary
from llava.model.loading.configs import clip_config, config_errors, read_config
from llava.model.loading.llava_config import LlavaConfig, Tensors
from llava.model.loading.placement import Placement
from llava.model.loading.weights import fill, read_checkpoint, unwrap
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.multimodal_encoder.visual_tokens import VisualTokens


@dataclass(frozen=True)
class Vision:
    """The vision part of a LLaVA checkpoint.

    Attributes:
        folder: the CLIP checkpoint.
        tower: CLIP.
        tokenizer: of CLIP.
        image_processor: images to pixels.
        text_selection: "farthest" or "nearest"; see select_tokens.
        image_aspect_ratio: see process_images.
    """

    folder: Path
    tower: ClipTower
    tokenizer: ClipTokenizer
    image_processor: CLIPImageProcessorPil
    text_selection: str
    image_aspect_ratio: str | None

    def encode(self, images: Sequence[Image.Image]) -> list[VisualTokens]:
        """Encodes B images; gives their features and OF_IMAGE."""
        pixels = process_images(list(images), self.image_processor, self.image_aspect_ratio)
        return self.tower(pixels)

    @property
    def num_tokens(self) -> int:
        """The largest number N of visual tokens of an image."""
        return self.tower.num_patches

    @property
    def describes_all(self) -> bool:
        """Whether texts are written of all views of an image, and not of the first alone."""
        return True

    @property
    def settings(self) -> dict:
        """What the encoding depends on besides the weights, JSON."""
        tower = self.tower
        return {
            "patch_post_layernorm": tower.patch_post_layernorm,
            "select_layer": tower.select_layer,
            "image_aspect_ratio": self.image_aspect_ratio,
            "dtype": str(tower.clip.visual_projection.weight.dtype).removeprefix("torch."),
        }


def load_tower(
    args: ModelArguments, config: LlavaConfig, folder: Path, own: Tensors, place: Placement
) -> Vision:
    """Loads CLIP with tokenizer and image processor, as a LLaVA checkpoint uses it.

    Args:
        args: the flags of the model and its variant.
        config: of the LLaVA checkpoint.
        folder: the CLIP checkpoint.
        own: the vision weights of the LLaVA checkpoint; empty if it has none.
        place: device and dtype of the tower.

    Raises:
        UserError: see load_pretrained_model.
    """
    tower = _clip_tower(args, config, folder, own, place)
    tokenizer = load_clip_tokenizer(tower, folder)
    processor = load_processor(folder, tower.image_size)
    selection = _text_selection(args, config)
    return Vision(folder, tower, tokenizer, processor, selection, config.image_aspect_ratio)


def load_clip_tokenizer(tower: ClipTower, folder: Path) -> ClipTokenizer:
    """Returns the tokenizer of a CLIP folder.

    Raises:
        UserError: it is missing, damaged or of another model.
    """
    text = tower.clip.config.text_config
    tokenizer = ClipTokenizer(folder)
    check_vocabulary(tokenizer, text.vocab_size, folder)
    end, wanted = tokenizer.encode("", tower.max_text_length)[-1], text.eos_token_id
    # transformers' CLIP pools a text at its end-of-text id; 2 stands for the highest id.
    if end != (len(tokenizer) - 1 if wanted == 2 else wanted):
        raise UserError(
            f"texts end with id {end} in the tokenizer of {folder}, and with {wanted} in its "
            "config.json: they are not of the same model; fetch the folder again"
        )
    return tokenizer


def _clip_tower(
    args: ModelArguments, config: LlavaConfig, folder: Path, own: Tensors, place: Placement
) -> ClipTower:
    """Loads CLIP, its vision weights replaced by the LLaVA checkpoint's own where it has them."""
    tensors = read_checkpoint(folder)
    clip = build_clip(read_config(folder), tensors, str(folder), place)
    layers = clip.config.vision_config.num_hidden_layers
    if not -layers - 1 <= config.select_layer <= layers:
        raise UserError(
            f"{args.model_path} reads layer {config.select_layer} of a tower of {layers} layers"
        )
    if own:
        source = f"{args.model_path} (vision tower)"
        fill(clip.vision_model, own, source, place.dtype, place.device_of)
    post_layernorm = args.patch_post_layernorm
    if post_layernorm is None:
        post_layernorm = config.patch_post_layernorm
    return ClipTower(clip, post_layernorm, config.select_layer)


def build_clip(config: dict, tensors: Tensors, source: str, place: Placement) -> CLIPModel:
    """Builds CLIP, vision and text, from its config.json and its tensors."""
    tensors = unwrap(tensors, ["logit_scale"])
    sizes = clip_config(config, source)
    # In float32 the recorded values hold to the last digits of float32, and plain attention comes
    # closest to them: the mapper after the tower magnifies the rounding of the fused kernel.
    attention = "eager" if place.dtype == torch.float32 else "sdpa"
    with config_errors(source), init_empty_weights():
        clip = CLIPModel._from_config(sizes, attn_implementation=attention)
    fill(clip, tensors, source, place.dtype, place.device_of)
    return clip.to(place.device)


def load_processor(folder: Path, image_size: int) -> CLIPImageProcessorPil:
    """Returns a CLIP folder's image processor, by default CLIP's settings at the tower's size."""
    size = {"height": image_size, "width": image_size}
    with config_errors(f"{folder} (preprocessor_config.json)"):
        if (folder / "preprocessor_config.json").is_file():
            read_json(folder / "preprocessor_config.json")
            processor = CLIPImageProcessorPil.from_pretrained(folder)
        else:
            processor = CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=size)
        made = process_images([Image.new("RGB", (2, 2))], processor, "pad")
        if made.shape != (1, 3, image_size, image_size):
            raise ValueError(f"makes images of {made.shape[-1]} pixels for a tower of {image_size}")
        if not made.isfinite().all():
            raise ValueError("makes pixels that are not finite")
    return processor


def _text_selection(args: ModelArguments, config: LlavaConfig) -> str:
    selection = args.text_selection or config.text_selection
    if selection not in ("farthest", "nearest"):
        raise UserError(f"text_selection is {quoted(selection)}; it must be farthest or nearest")
    return selection


def count_patches(vision_tower: Path) -> int:
    """Returns N, the number of patches of a CLIP folder, without loading the tower.

    Raises:
        UserError: its config.json is not CLIP's.
    """
    vision = clip_config(read_config(vision_tower), str(vision_tower)).vision_config
    return (vision.image_size // vision.patch_size) ** 2
