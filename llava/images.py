"""Conversion of image files and Pillow images to 8-bit RGB, without torch."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from llava.errors import UserError

# An image counts as the square that it is padded to.
MAX_SQUARE_PIXELS = 89_478_485
# The formats that are read. Other decoders of Pillow call outside programs or are seldom tested.
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")

# EXIF's orientation -> the operation that turns the image upright. ImageOps.exif_transpose fails on
# damaged EXIF.
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
    source: str | PathLike | bytes,
    upright: bool = False,
    name: str | None = None,
    advice: str = "fetch it again",
) -> Image.Image:
    """Reads an image file (or its bytes) as RGB, the first frame of an animation; see to_rgb.

    Args:
        source: the file.
        upright: see to_rgb.
        name: its name in messages; None takes it from the source.
        advice: the way out in messages about a damaged file.

    Raises:
        UserError: no such file, not an image, damaged, or too large to be padded to a square.
    """
    if name is None:
        name = "the encoded image" if isinstance(source, bytes) else f"the image {source}"
    with _damage_told(name, advice):
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if not data:
            raise UserError(f"{name} is empty (0 bytes): {advice}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # to_rgb checks
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
                return to_rgb(image, upright, name, advice)


def to_rgb(
    image: Image.Image,
    upright: bool = False,
    name: str = "the image",
    advice: str = "fetch it again",
) -> Image.Image:
    """Converts an image of any kind to 8-bit RGB; all images are converted here.

    Transparency is dropped, as in LLaVA. 16 bits per channel are reduced to 8 by dropping the low
    byte.

    Args:
        image: opened or made with Pillow; it stays unchanged.
        upright: whether to apply the rotation that a camera recorded (EXIF), as people expect.
            Benchmarks are read without, as in LLaVA. (For TIFF files, Pillow itself applies it.)
        name: its name in messages.
        advice: see load_image.

    Returns:
        A new image with nothing but pixels.

    Raises:
        UserError: damaged, too large to be padded to a square, or more than 16 bits per channel:
            the value of white is then unknown.
    """
    check_size(image, name)
    with _damage_told(name, advice):
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


def _orientation(image: Image.Image) -> Any:
    """Returns an image's EXIF orientation; None if EXIF is damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the parser raises anything on damaged data
        return None


@contextmanager
def _damage_told(name: str, advice: str) -> Iterator[None]:
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
            f"{name} is damaged or cut short, or no file to read ({error}): {advice}"
        ) from error


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Opens an image file for its header; check_pixels counts its pixels in place of Pillow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            yield image


def check_pixels(data: bytes, most: int, taker: str) -> None:
    """Refuses an image file of too many pixels by its header; load_image refuses other files.

    Raises:
        UserError: it has more than ``most`` pixels, which ``taker`` does not take.
    """
    try:
        with opened(data) as image:
            width, height = image.size
    except Exception:  # a decoder may raise anything on a damaged file
        return
    if width * height > most:
        raise UserError(
            f"the image has {width:,} x {height:,} pixels, and {taker} takes at most {most:,} "
            "altogether: scale it down"
        )


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
