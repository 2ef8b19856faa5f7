"""Guarded fetching of pictures by URL, for chat, Python and single questions.

Benchmarks and the web page never use it. Addresses are checked when a connection is made, so that
redirects and changing names (DNS rebinding) cannot lead to other machines. Proxies of the
environment are not used: a proxy would look names up itself, past the guard.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from os import PathLike
from typing import TypeGuard
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from PIL import Image

from llava.errors import UserError, quoted, shown
from llava.guard import PORTS, USUAL, Connection, Guard
from llava.images import load_image
from llava.version import find_version

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_KINDS = "image/png, image/jpeg, image/webp, image/gif, image/*;q=0.5"
_MOVED = (301, 302, 303, 307, 308)
_CHUNK = 1 << 16  # bytes


def is_url(source: object) -> TypeGuard[str]:
    """Returns whether an image is given by a URL instead of a path."""
    return isinstance(source, str) and _URL.match(source) is not None


def open_image(
    source: str | PathLike | bytes, upright: bool = False, guard: Guard = USUAL
) -> Image.Image:
    """Reads an image as load_image does, also by its URL (http, https).

    Raises:
        UserError: as load_image; or it cannot be fetched, or the guard refuses it.
    """
    if not is_url(source):
        return load_image(source, upright)
    return load_image(fetch(source, guard), upright, f"the image {shown(source)}")


def fetch(url: str, guard: Guard = USUAL) -> bytes:
    """Fetches the bytes at a URL.

    Raises:
        UserError: it cannot be fetched, or the guard refuses it.
    """
    with _begun(url, guard) as outcome:
        return outcome.result(guard.seconds)


async def fetch_async(url: str, guard: Guard = USUAL) -> bytes:
    """Fetches the bytes at a URL as fetch does; cancelling it ends the connection."""
    with _begun(url, guard) as outcome:
        return await asyncio.wait_for(asyncio.wrap_future(outcome), guard.seconds)


@contextmanager
def _begun(url: str, guard: Guard) -> Iterator[Future[bytes]]:
    """Fetches in a thread, since nothing else limits the time in which a name is looked up.

    Raises:
        UserError: the time is over.
    """
    visit = _Visit(guard)
    outcome: Future[bytes] = Future()
    outcome.set_running_or_notify_cancel()  # from now on it cannot be cancelled

    def settle() -> None:
        try:
            outcome.set_result(visit.fetch(url))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=settle, daemon=True).start()
    try:
        yield outcome
    except (NotInTime, asyncio.TimeoutError):  # one class from Python 3.11 on
        raise UserError(
            f"{shown(url)} could not be fetched (not there in {guard.seconds:g} seconds): "
            f"{guard.way_out}"
        ) from None
    finally:
        visit.stop()


class _Visit:
    """The fetching of one picture, redirects included.

    Args:
        guard: what may be fetched.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._connection: Connection | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Cuts the connection at any point, and prevents further ones."""
        self._is_stopped = True
        if self._connection is not None:
            self._connection.cut()

    def fetch(self, url: str) -> bytes:
        """Fetches the bytes at a URL; see the function of this name."""
        where = url
        for _ in range(self._guard.redirects + 1):
            parts = _split(where, self._guard.way_out)
            with _told(where, self._guard.way_out):
                connection = self._connection = Connection(parts, self._guard)
                if self._is_stopped:
                    raise ConnectionError("nobody waits for it any more")
                try:
                    response = self._ask(connection, parts)
                    if response.status not in _MOVED:
                        return self._body(response, where)
                    where = urljoin(where, response.headers.get("Location") or "")
                finally:
                    self._connection.close()
        raise UserError(
            f"{shown(url)} leads to more than {self._guard.redirects} other addresses one after "
            f"the other: {self._guard.way_out}"
        )

    def _ask(self, connection: Connection, parts: SplitResult) -> HTTPResponse:
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
        headers = {"User-Agent": f"llava-accm/{find_version()}", "Accept": _KINDS}
        connection.request("GET", f"{path}?{query}" if query else path, headers=headers)
        return connection.getresponse()

    def _body(self, response: HTTPResponse, where: str) -> bytes:
        """Returns the body of a response.

        Raises:
            UserError: it is not a picture, or too large.
            ConnectionError: it ends too early.
        """
        status, headers = response.status, response.headers
        most, way_out = self._guard.most_bytes, self._guard.way_out
        if status != 200:
            gone = ": it is not there (any more)" if status in (404, 410) else ""
            raise ConnectionError(f"it answered {status}{gone}")
        if headers.get_content_type() == "text/html":
            raise UserError(f"{shown(where)} gives a web page in place of a picture: {way_out}")
        if (packed := headers.get("Content-Encoding", "identity")).lower() != "identity":
            raise ConnectionError(f"it comes packed ({packed[:40]}), which was not asked for")
        body, said = bytearray(), response.length or 0
        while max(said, len(body)) <= most and (chunk := response.read(_CHUNK)):
            body += chunk
        if max(said, len(body)) > most:
            raise UserError(
                f"{shown(where)} has more than {most:,} bytes, which are fetched at most: {way_out}"
            )
        if response.length:
            raise ConnectionError(f"the line was cut {response.length:,} bytes before its end")
        return bytes(body)


def _split(url: str, way_out: str) -> SplitResult:
    """Returns the parts of a URL.

    Raises:
        UserError: it is not a URL that can be fetched.
    """
    try:
        parts = urlsplit(url)
        is_whole = parts.hostname and parts.port != 0
    except ValueError as error:
        raise UserError(f"{shown(url)} is no address of a picture ({error}): check it") from error
    if parts.scheme not in PORTS:
        raise UserError(
            f"{shown(url)} begins with {quoted(parts.scheme)}, and pictures are fetched by http "
            f"and https only: {way_out}"
        )
    if not is_whole:
        raise UserError(f"{shown(url)} names no machine to ask: check it")
    return parts


@contextmanager
def _told(url: str, way_out: str) -> Iterator[None]:
    """Turns errors of fetching into one line."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        says = f"its certificate is not valid: {error.verify_message}"
    except socket.gaierror as error:
        says = f"its name is not known here, or there is no network: {error.strerror}"
    except (OSError, HTTPException, ValueError) as error:
        says = str(getattr(error, "strerror", None) or error) or type(error).__name__
    else:
        return
    raise UserError(f"{shown(url)} could not be fetched ({shown(says)}): {way_out}")
