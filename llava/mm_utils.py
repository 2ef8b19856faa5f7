"""Conversion of inputs: image files to pixels, prompts to token ids."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.errors import UserError, quoted

# CLIP's mean colour as LLaVA rounds it, the default colour of padding.
CLIP_BACKGROUND = (122, 116, 104)
# Limit of an image's pixels once it is padded to a square.
MAX_SQUARE_PIXELS = 89_478_485
# Pixels of a padded square that are in memory at once while it is scaled: 16 MB.
STRIP_PIXELS = 1 << 22
# If the model sees only the middle of an image, all beyond this many times the shorter side from it
# is cut off before scaling: the scaled image could be arbitrarily large.
MAX_RATIO = 16

# Formats that are read. Other decoders of Pillow call external programs or are seldom tested.
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")

# EXIF's orientation -> the operation that turns the image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    source: str | PathLike | bytes, upright: bool = False, name: str | None = None
) -> Image.Image:
    """Reads an image file (or its bytes) as RGB, the first frame of an animation; see to_rgb.

    Args:
        source: the file.
        upright: see to_rgb.
        name: its name in messages; None takes it from the source.

    Raises:
        UserError: no such file, not an image, damaged, or too large to be padded to a square.
    """
    if name is None:
        name = "the encoded image" if isinstance(source, bytes) else f"the image {source}"
    with _damage_told(name):
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if not data:
            raise UserError(f"{name} is empty (0 bytes): fetch it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # to_rgb checks
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
                return to_rgb(image, upright, name)


def to_rgb(image: Image.Image, upright: bool = False, name: str = "the image") -> Image.Image:
    """Converts an image of any kind to 8-bit RGB; all images are converted here.

    Transparency is dropped, as in LLaVA. 16 bits per channel are reduced to 8 by dropping the low
    byte.

    Args:
        image: opened or made with Pillow; it stays unchanged.
        upright: whether to apply the rotation that a camera recorded (EXIF), as people expect.
            Benchmarks are read without, as in LLaVA. (For TIFF files, Pillow itself applies it.)
        name: its name in messages.

    Returns:
        A new image with nothing but pixels.

    Raises:
        UserError: damaged, too large to be padded to a square, or more than 16 bits per channel:
            the value of white is then unknown.
    """
    check_size(image, name)
    with _damage_told(name):
        image.load()  # Pillow applies the orientation of a TIFF file here and drops it
        turn = _UPRIGHT.get(_orientation(image)) if upright else None
        if image.mode in ("I", "F"):
            raise UserError(
                f"{name} is of mode {image.mode} (32 bits a channel): save it with 8 or 16"
            )
        if image.mode.startswith("I;16"):  # Pillow alone would clip these values
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(turn)
    image.info.clear()  # an applied orientation must not be applied again
    return image


def _orientation(image: Image.Image) -> object:
    """Returns an image's EXIF orientation; None if EXIF is damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the parser raises anything on damaged data
        return None


@contextmanager
def _damage_told(name: str) -> Iterator[None]:
    """Turns errors of reading and decoding into one line."""
    try:
        yield
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
        raise UserError(f"there is no {name.removeprefix('the ')}: check the path") from error
    except Exception as error:  # decoders raise anything on damaged files
        raise UserError(
            f"{name} is damaged or cut short, or no file to read ({error}): fetch it again"
        ) from error


def check_size(image: Image.Image, name: object = "the image") -> None:
    """Refuses an image without pixels, or one that is too large once padded to a square.

    Raises:
        UserError: the square of the longer side exceeds MAX_SQUARE_PIXELS, or a side is 0.
    """
    longer = max(image.size)
    if longer * longer > MAX_SQUARE_PIXELS:
        limit = int(MAX_SQUARE_PIXELS**0.5)
        raise UserError(
            f"{name} is {image.width} x {image.height} pixels; padded to a square it would hold "
            f"{longer * longer / 1e6:.0f} million. Scale it down to at most {limit} pixels a side."
        )
    if not min(image.size):
        raise UserError(f"{name} has no pixels ({image.width} x {image.height}): give another")


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
    """Returns the square that the tower sees of an RGB image, ``side`` pixels wide."""
    if aspect_ratio == "pad":
        return expand2square(image, mean_colour(processor), side)
    shorter = min(image.size)
    return ImageOps.fit(image, (shorter, shorter)).resize((side, side))


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
        colour, size = mean_colour(image_processor), image_processor.size
        side = size.shortest_edge or size.height  # the processor then leaves it unchanged
        images = [expand2square(image, colour, side, image_processor.resample) for image in images]
    else:
        images = [_middle(image) for image in images]
    return image_processor(images, return_tensors="pt")["pixel_values"]


def _middle(image: Image.Image) -> Image.Image:
    """Returns an image without the ends that are too far out to be seen."""
    width, height = (min(edge, MAX_RATIO * min(image.size)) for edge in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def tokenizer_image_token(
    prompt: str,
    tokenizer: Callable[[str], list[int]] | object,
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
    encode = getattr(tokenizer, "encode", tokenizer)
    first, *rest = [encode(piece) for piece in prompt.split(DEFAULT_IMAGE_TOKEN)]
    ids = list(first)
    for piece in rest:
        ids += [image_token_index, *piece[1:]]
    return ids if return_tensors is None else torch.tensor(ids)


def get_model_name_from_path(model_path: str) -> str:
    """Returns LLaVA's name of a model: the last part of its path.

    For a checkpoint of a training, its folder is a part of the name too.
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
