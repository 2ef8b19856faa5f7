"""Files that are no good images, and images of uncommon kinds."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator

Make = Callable[[np.random.Generator], bytes]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def bad_images() -> dict[str, Make]:
    """Returns for each kind of bad image a function that makes one."""
    kinds: dict[str, Make] = {
        "an empty file": lambda _: b"",
        "a text": lambda _: b"GIF87a? no, a text",
        "a web page": lambda _: b"<!DOCTYPE html><script>alert(1)</script>",
        "an SVG": lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/>",
        "an archive": lambda g: b"PK\x03\x04" + g.bytes(500),
        "noise": lambda g: g.bytes(int(g.integers(1, 5000))),
        "a file above the limit": lambda _: bytes(11 << 20),
        "a file far above the limit": lambda _: bytes(40 << 20),
        "a bomb by its header": lambda g: _png(int(g.integers(20_000, 2**31 - 1)), 50_000, b""),
        "a bomb of zeros": lambda _: _png(30_000, 30_000, bytes(3_751 * 30_000)),
        "an image without pixels": lambda _: _png(0, 0, b""),
        "a long strip": lambda g: _file(Image.new("L", (int(g.integers(9_500, 30_000)), 1)), "PNG"),
        "one pixel": lambda _: _file(Image.new("RGB", (1, 1)), "PNG"),
        "a text chunk that unpacks to 64 MB": lambda _: _text_bomb(),
    }
    for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"):
        kinds[f"a truncated {form}"] = lambda g, form=form: _cut(_scene(g, form), g)
        kinds[f"a {form} with wrong bytes"] = lambda g, form=form: _flip(_scene(g, form), g)
    for mode, form in (
        ("CMYK", "JPEG"),
        ("I;16", "PNG"),
        ("P", "PNG"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("F", "TIFF"),
        ("I", "TIFF"),
    ):
        kinds[f"a {form} of mode {mode}"] = lambda _, mode=mode, form=form: _file(
            Image.new(mode, (60, 40)), form
        )
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        kinds[f"an animated {form}"] = lambda _, form=form: _animation(form)
    return kinds


def _scene(generator: np.random.Generator, form: str) -> bytes:
    number = int(generator.integers(1000))
    return _file(draw_scene(make_scene(scene_generator(3, "test", number))), form)


def _file(image: Image.Image, form: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def _animation(form: str) -> bytes:
    frames = [Image.new("RGB", (40, 40), (shade, 0, 0)) for shade in range(0, 250, 10)]
    return _file(frames[0], form, save_all=True, append_images=frames[1:])


def _cut(data: bytes, generator: np.random.Generator) -> bytes:
    return data[: int(generator.integers(1, len(data)))]


def _flip(data: bytes, generator: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in generator.integers(0, len(data), 20):
        changed[place] ^= 0xFF
    return bytes(changed)


def _png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of one bit a pixel that says that it is so large."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels, 1))
    return _SIGNATURE + body + _chunk(b"IEND", b"")


def _text_bomb() -> bytes:
    text = _chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64 << 20)))
    whole = _file(Image.new("L", (8, 8)), "PNG")
    end_of_header = len(_SIGNATURE) + 25
    return whole[:end_of_header] + text + whole[end_of_header:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum
