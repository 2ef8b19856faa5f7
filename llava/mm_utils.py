"""Images and prompts on their way in: files to pixels, prompts to token ids."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers import CLIPImageProcessorPil

from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.errors import UserError

# CLIP's mean colour as LLaVA rounds it; what pads an image where no processor says otherwise.
CLIP_BACKGROUND = (122, 116, 104)
# An image is padded to a square before it is resized: this many pixels take 0.27 GB on the way.
MAX_SQUARE_PIXELS = 89_478_485


# What is read as an image. Other decoders of Pillow call outside programs or are seldom tested.
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")


def load_image(source: str | PathLike | bytes) -> Image.Image:
    """Reads an image file (or its bytes) as RGB, the first frame of an animation.

    Transparency is dropped and an EXIF rotation is not applied, as LLaVA has it. Images with 16
    bits a channel are brought to 8, by dropping the low byte.

    Raises:
        UserError: no such file, not an image, damaged, or too large to be padded to a square.
    """
    name = "the encoded image" if isinstance(source, bytes) else f"the image {source}"
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if not data:
            raise UserError(f"{name} is empty (0 bytes): fetch it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked just below
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
                check_size(image, name)
                return _to_rgb(image)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        kinds = ", ".join(IMAGE_FORMATS)
        raise UserError(
            f"{name} cannot be read as an image: it is none of {kinds}, or damaged; save it as one "
            "of them"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} cannot be read as an image ({error}): scale it down") from error
    except FileNotFoundError as error:
        raise UserError(f"there is no image {source}: check the path") from error
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        raise UserError(
            f"{name} is damaged or cut short, or no file to read ({error}): fetch it again"
        ) from error


def check_size(image: Image.Image, name: object = "the image") -> None:
    """Refuses an image that would take too much memory once padded to a square.

    Raises:
        UserError: the longer side, squared, is above MAX_SQUARE_PIXELS.
    """
    longer = max(image.size)
    if longer * longer > MAX_SQUARE_PIXELS:
        limit = int(MAX_SQUARE_PIXELS**0.5)
        raise UserError(
            f"{name} is {image.width} x {image.height} pixels; padded to a square it would hold "
            f"{longer * longer / 1e6:.0f} million. Scale it down to at most {limit} pixels a side."
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    """Converts a just opened image to 8-bit RGB.

    Raises:
        UserError: more than 16 bits a channel: nothing says which value is white.
    """
    if image.mode.startswith("I;16"):  # Pillow alone would clip these values
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UserError(f"an image of mode {image.mode} (32 bits a channel): save it with 8 or 16")
    return image.convert("RGB")


def expand2square(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Pads an RGB image to a square, the content in the middle (rounded up and to the left)."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), background)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def square_view(
    image: Image.Image, processor: CLIPImageProcessorPil, aspect_ratio: str | None
) -> Image.Image:
    """The square of an RGB image that the tower gets to see, before it is scaled."""
    if aspect_ratio == "pad":
        return expand2square(image, mean_colour(processor))
    side = min(image.size)
    return ImageOps.fit(image, (side, side))


def mean_colour(processor: CLIPImageProcessorPil) -> tuple[int, ...]:
    """The colour that pads an image: CLIP's mean, rounded down as LLaVA has it."""
    return tuple(int(255 * channel) for channel in processor.image_mean)


def process_images(
    images: list[Image.Image], processor: CLIPImageProcessorPil, aspect_ratio: str | None
) -> Tensor:
    """Pixels as the tower wants them, bit for bit those of LLaVA's own processor.

    Args:
        images: images of any size; others than RGB are converted.
        processor: the Pillow processor; one that resizes tensors moves pixels by grey levels.
        aspect_ratio: "pad" (LLaVA-1.5) pads to a square with the mean colour first; None lets the
            processor resize the shorter side and cut the middle out.

    Returns:
        (B, 3, S, S) float32, normalised.
    """
    for image in images:
        check_size(image)
    images = [image if image.mode == "RGB" else _to_rgb(image) for image in images]
    if aspect_ratio == "pad":
        images = [expand2square(image, mean_colour(processor)) for image in images]
    return processor(images, return_tensors="pt")["pixel_values"]


def tokenizer_image_token(prompt: str, encode: Callable[[str], list[int]]) -> list[int]:
    """Token ids of a prompt with IMAGE_TOKEN_INDEX in the place of each ``<image>``.

    The text around the placeholders is encoded piece by piece, so each piece begins with a dummy
    blank of its own, as the model was trained.

    Args:
        prompt: text with any number of ``<image>``.
        encode: gives the ids of a text, the begin-of-text id first.
    """
    first, *rest = [encode(piece) for piece in prompt.split(DEFAULT_IMAGE_TOKEN)]
    ids = list(first)
    for piece in rest:
        ids += [IMAGE_TOKEN_INDEX, *piece[1:]]
    return ids


def send(values: Sequence | Tensor, device: torch.device) -> Tensor:
    """A tensor of numbers on a device. To a GPU they go from pinned memory, so that nobody waits
    until it has done what it was given before."""
    tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def round_up(number: int, multiple: int) -> int:
    """The next multiple, or the number itself."""
    return -(-number // multiple) * multiple


def pad_left(rows: list[Tensor], multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Stacks sequences of different lengths, padded with zeros on the left.

    Args:
        rows: B tensors (L_b, C) of one dtype.
        multiple: L is rounded up to one of this number.

    Returns:
        (B, L, C) and its mask (B, L) int64, 1 where there is something.
    """
    length = round_up(max(len(row) for row in rows), multiple)
    padded = rows[0].new_zeros(len(rows), length, rows[0].shape[-1])
    for b, row in enumerate(rows):
        padded[b, length - len(row) :] = row
    padding = torch.tensor([length - len(row) for row in rows])
    mask = (torch.arange(length) >= padding[:, None]).long()
    return padded, send(mask, padded.device)
