"""The image of a request: from a data: URL, or from a host that the server may ask."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Collection
from urllib.parse import unquote_to_bytes, urlsplit

from PIL import Image

from llava.errors import UserError, quoted, shown
from llava.guard import PORTS, USUAL, Guard
from llava.image_url import fetch_async
from llava.images import check_pixels, load_image

_DATA = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_LONGEST_HEAD = 200  # characters before the comma of a data: URL
_WAY_OUT = "send the file itself, as data:image/png;base64, and then the file in base64"


class ImageReader:
    """Reads the images of requests.

    Args:
        hosts: names of the hosts that are asked for images; of none if it is empty.
        most_bytes: largest file.
        most_pixels: largest image, width times height.
        view: makes an image as small as the model sees it, so that waiting requests take little
            memory, and the thread of the model little time.
        guard: limits of fetching; its addresses are checked for the hosts too.
    """

    def __init__(
        self,
        hosts: Collection[str],
        most_bytes: int,
        most_pixels: int,
        view: Callable[[Image.Image], Image.Image],
        guard: Guard = USUAL,
    ) -> None:
        self._hosts = frozenset(_plain(host) for host in hosts)
        self._most_bytes = most_bytes
        self._most_pixels = most_pixels
        self._view = view
        self._guard = Guard(
            look_up=lambda host, port: guard.look_up(self._checked(host), port),
            allows=guard.allows,
            seconds=guard.seconds,
            most_bytes=most_bytes,
            redirects=guard.redirects,
            way_out=_WAY_OUT,
        )

    async def read(self, url: str) -> Image.Image:
        """Returns an image as RGB, upright; it may take the seconds of a fetch.

        Raises:
            UserError: it cannot be had, or is no image that the model can read.
        """
        scheme = _SCHEME.match(url, 0, _LONGEST_HEAD)
        kind = scheme[1].lower() if scheme else ""
        if kind == "data":
            return await asyncio.to_thread(lambda: self._opened(self._decoded(url)))
        if kind not in PORTS:
            raise UserError(
                f"image_url.url is {quoted(url)}, which is no URL of the kinds that are read "
                f"(data, http, https): {_WAY_OUT}"
            )
        return await asyncio.to_thread(self._opened, await self._fetched(url))

    async def _fetched(self, url: str) -> bytes:
        if not self._hosts:
            raise UserError(f"this server fetches no images by their URL: {_WAY_OUT}")
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
        if host is not None:  # one that names no host is refused where it is fetched
            self._checked(host)  # before it is looked up; and again wherever a redirect leads
        return await fetch_async(url, self._guard)

    def _opened(self, data: bytes) -> Image.Image:
        if not data:
            raise UserError(f"the image is empty (0 bytes): {_WAY_OUT}")
        check_pixels(data, self._most_pixels, "this server")
        image = load_image(data, upright=True, name="the image", advice="send the whole file")
        return self._view(image)

    def _decoded(self, url: str) -> bytes:
        """Returns the bytes of a data: URL."""
        head = _DATA.match(url, 0, _LONGEST_HEAD)
        if head is None:
            raise UserError(
                f"image_url.url is {quoted(url)}, which is no whole data: URL: {_WAY_OUT}"
            )
        body = url[head.end() :]
        if head[2].lower().endswith(";base64"):
            try:
                data = base64.b64decode("".join(body.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise UserError(
                    f"the base64 of the image is damaged ({error}): encode the whole file, with + "
                    "and / among the letters, and = at its end"
                ) from None
        else:
            data = unquote_to_bytes(body)
        if len(data) > self._most_bytes:
            raise UserError(
                f"the image has {len(data):,} bytes, and this server takes at most "
                f"{self._most_bytes:,}: save it smaller"
            )
        return data

    def _checked(self, host: str) -> str:
        """Returns the name of a host that may be asked.

        Raises:
            UserError: it may not.
        """
        if _plain(host) in self._hosts:
            return host
        raise UserError(f"this server fetches no images from {shown(host)}: {_WAY_OUT}")


def _plain(host: str) -> str:
    return host.lower().rstrip(".")
