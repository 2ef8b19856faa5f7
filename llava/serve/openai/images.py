"""The image of a request: from a data: URL, or from a host that the server may ask."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes, urlsplit

from PIL import Image

from llava.errors import UserError, quoted, shown
from llava.guard import USUAL, Guard
from llava.image_url import fetch, is_url
from llava.images import check_pixels, load_image

_DATA = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_WAY_OUT = "send the image itself, as a data: URL"


class ImageReader:
    """Reads the images of requests.

    Args:
        hosts: names of the hosts that are asked for images; of none if it is empty.
        most_bytes: largest file.
        most_pixels: largest image, width times height.
        guard: limits of fetching; its addresses are checked for the hosts too.
    """

    def __init__(
        self, hosts: Collection[str], most_bytes: int, most_pixels: int, guard: Guard = USUAL
    ) -> None:
        self._hosts = frozenset(_plain(host) for host in hosts)
        self._most_bytes = most_bytes
        self._most_pixels = most_pixels
        self._guard = Guard(
            look_up=lambda host, port: guard.look_up(self._checked(host), port),
            allows=guard.allows,
            seconds=guard.seconds,
            most_bytes=most_bytes,
            redirects=guard.redirects,
        )

    def read(self, url: str) -> Image.Image:
        """Returns an image as RGB, upright; it may take the seconds of a fetch.

        Raises:
            UserError: it cannot be had, or is no image that the model can read.
        """
        data = self._data(url)
        check_pixels(data, self._most_pixels, "this server")
        return load_image(data, upright=True, name="the image")

    def _data(self, url: str) -> bytes:
        if url[:5].lower() == "data:":
            return self._decoded(url)
        if not is_url(url):
            raise UserError(f"image_url.url is {quoted(url)}, which is no URL: {_WAY_OUT}")
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            host = ""
        self._checked(host)  # before a name is looked up; and again wherever a redirect leads
        return fetch(url, self._guard)

    def _decoded(self, url: str) -> bytes:
        """Returns the bytes of a data: URL."""
        head = _DATA.match(url)
        if head is None:
            raise UserError(
                f"image_url.url is {quoted(url[:80])}, which is no data: URL: write "
                "data:image/png;base64, and then the file in base64"
            )
        body = url[head.end() :]
        if head[2].lower().endswith(";base64"):
            try:
                data = base64.b64decode("".join(body.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise UserError(f"the base64 of the image is damaged ({error}): check it") from None
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
        if not self._hosts:
            raise UserError(f"this server fetches no images: {_WAY_OUT}")
        raise UserError(f"this server fetches no images from {shown(host)}: {_WAY_OUT}")


def _plain(host: str) -> str:
    return host.lower().rstrip(".")
