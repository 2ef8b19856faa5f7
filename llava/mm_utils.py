"""Conversion of inputs: image files to pixels, prompts to token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.errors import UserError, quoted
from llava.images import (  # noqa: F401  some are here only for imports as in LLaVA
    IMAGE_FORMATS,
    MAX_SQUARE_PIXELS,
    check_size,
    load_image,
    to_rgb,
)

# CLIP's mean colour as LLaVA rounds it, the default colour of padding.
CLIP_BACKGROUND = (122, 116, 104)
# Pixels of a padded square that are in memory at once while it is scaled: 16 MB.
STRIP_PIXELS = 1 << 22
# If the model sees only the middle of an image, everything farther from it than this many times the
# shorter side is cut off before scaling, because the scaled image could be arbitrarily large.
MAX_RATIO = 16


def expand2square(
    image: Image.Image,
    background: tuple[int, ...],
    side: int | None = None,
    resample: int = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Pads an RGB image to a square, the content in the middle (rounded up and to the left).

    Args:
        image: of any size.
        background: the colour of the padding.
        side: side of the result in pixels; None does not scale. Pixels are bit for bit those of the
            whole square resized by Pillow, which resizes each row by itself, and then the columns.
            So only strips of the image's rows are built, never the whole square.
        resample: one of Pillow's filters.
    """
    width, height = image.size
    longer = max(width, height)
    left, top = (longer - width) // 2, (longer - height) // 2
    if side is None:
        square = Image.new("RGB", (longer, longer), background)
        square.paste(image, (left, top))
        return square
    narrow = Image.new("RGB", (side, longer), background)
    rows = max(1, STRIP_PIXELS // longer)
    for start in range(0, height, rows):
        part = image.crop((0, start, width, min(start + rows, height)))
        strip = Image.new("RGB", (longer, part.height), background)
        strip.paste(part, (left, 0))
        narrow.paste(strip.resize((side, part.height), resample), (0, top + start))
    return narrow.resize((side, side), resample)


def square_view(
    image: Image.Image, processor: CLIPImageProcessorPil, aspect_ratio: str | None, side: int
) -> Image.Image:
    """Returns the square that the tower sees of an RGB image, ``side`` pixels wide.

    It is the first of several views of LLaVA-NeXT ("anyres"), scaled to a square.
    """
    if aspect_ratio == "pad":
        return expand2square(image, mean_colour(processor), side)
    if aspect_ratio == "anyres":
        return image.resize((side, side), Image.Resampling.BICUBIC)
    shorter = min(image.size)
    return ImageOps.fit(image, (shorter, shorter)).resize((side, side))


def padded_view(image: Image.Image, processor: CLIPImageProcessorPil) -> Image.Image:
    """Returns the square of an RGB image that the tower reads after padding ("pad").

    The square in the place of the image gives the same pixels to the tower.
    """
    side = processor.size.shortest_edge or processor.size.height
    return expand2square(image, mean_colour(processor), side, processor.resample)


def mean_colour(processor: CLIPImageProcessorPil) -> tuple[int, ...]:
    """Returns the colour of padding: CLIP's mean, rounded down as in LLaVA."""
    return tuple(int(255 * channel) for channel in processor.image_mean)


def process_images(
    images: list[Image.Image], image_processor: CLIPImageProcessorPil, model_cfg: object
) -> Tensor:
    """Returns pixels for the tower, bit for bit those of LLaVA's own processor.

    Args:
        images: images of any size and mode.
        image_processor: the Pillow processor; one that resizes tensors changes pixel values.
        model_cfg: the treatment of images that are not square: "pad" (LLaVA-1.5) first pads them
            with the mean colour; with None the processor resizes the shorter side and crops the
            middle. Or an object with this image_aspect_ratio, like LLaVA's model.config.

    Returns:
        (B, 3, S, S) float32, normalised.
    """
    for image in images:
        check_size(image)
    images = [image if image.mode == "RGB" else to_rgb(image) for image in images]
    is_said = model_cfg is None or isinstance(model_cfg, str)
    if (model_cfg if is_said else getattr(model_cfg, "image_aspect_ratio", None)) == "pad":
        # The processor leaves squares of its size unchanged.
        images = [padded_view(image, image_processor) for image in images]
    else:
        images = [_middle(image) for image in images]
    return image_processor(images, return_tensors="pt")["pixel_values"]


def _middle(image: Image.Image) -> Image.Image:
    """Returns an image without the ends that the model cannot see."""
    width, height = (min(edge, MAX_RATIO * min(image.size)) for edge in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def tokenizer_image_token(
    prompt: str,
    tokenizer: Any,
    image_token_index: int = IMAGE_TOKEN_INDEX,
    return_tensors: str | None = None,
) -> list[int] | Tensor:
    """Returns the token ids of a prompt, with a placeholder id for each ``<image>``.

    The text around the placeholders is encoded piece by piece, so that each piece begins with its
    own dummy blank, as in training.

    Args:
        prompt: text with any number of ``<image>``.
        tokenizer: the LLM's, or its encode, which returns a text's ids, the begin-of-text first.
        image_token_index: the placeholder id.
        return_tensors: None, or "pt" for a tensor (L,) int64.

    Raises:
        UserError: return_tensors has another value.
    """
    if return_tensors not in (None, "pt"):
        raise UserError(f"return_tensors is {quoted(return_tensors)}: pt, or leave it out")
    encode: Callable[[str], list[int]] = getattr(tokenizer, "encode", tokenizer)
    first, *rest = [encode(piece) for piece in prompt.split(DEFAULT_IMAGE_TOKEN)]
    ids = list(first)
    for piece in rest:
        ids += [image_token_index, *piece[1:]]
    return ids if return_tensors is None else torch.tensor(ids)


def get_model_name_from_path(model_path: str) -> str:
    """Returns LLaVA's name of a model: the last part of its path.

    For a checkpoint of a training run, the name includes the folder of the run.
    """
    *before, last = model_path.strip("/").split("/")
    return f"{before[-1]}_{last}" if before and last.startswith("checkpoint-") else last


def send(values: Sequence | Tensor, device: torch.device) -> Tensor:
    """Returns a tensor of numbers on a device.

    They are copied to a GPU from pinned memory, without waiting for its earlier work.
    """
    tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def rounds_by_rows(module: nn.Module) -> bool:
    """Returns whether the rounding of a module's matrix products depends on their rows.

    In half precision it does: kernels for one row, for a few and for many add in different orders.
    On a CPU, which a single sample keeps busy, samples are therefore computed one by one; on a GPU
    that would cost too much.
    """
    weight = next(module.parameters())
    return weight.device.type == "cpu" and weight.dtype != torch.float32


def round_up(number: int, multiple: int) -> int:
    """Returns the next multiple, or the number itself."""
    return -(-number // multiple) * multiple


def pad_left(rows: list[Tensor], multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Stacks sequences of different lengths, padded with zeros on the left.

    Args:
        rows: B tensors (L_b, C) of one dtype.
        multiple: L is rounded up to one of this number.

    Returns:
        (B, L, C) and its mask (B, L) int64, 1 for elements that are not padding.
    """
    length = round_up(max(len(row) for row in rows), multiple)
    padded = rows[0].new_zeros(len(rows), length, rows[0].shape[-1])
    for b, row in enumerate(rows):
        padded[b, length - len(row) :] = row
    padding = torch.tensor([length - len(row) for row in rows])
    mask = (torch.arange(length) >= padding[:, None]).long()
    return padded, send(mask, padded.device)
