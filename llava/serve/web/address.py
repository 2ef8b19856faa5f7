"""The address on which the page listens, those of valid requests, and passwords tried from one.

Starlette's TrustedHostMiddleware knows fixed names alone; here the address on which a request
arrived is valid too.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from llava.errors import UserError

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(:\d{1,5})?")
_ELSEWHERE = ("cross-site", "same-site")
_OF_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "[::1]"})


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to an address, and not listening yet.

    Raises:
        UserError: The port is in use, or the host is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is too long
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on port {port} of {host} ({reason}): stop what runs there, or take "
            "another --port or --host"
        ) from error


def shown_address(host: str, port: int) -> str:
    """Returns the URL of the page for a browser on this machine."""
    name = "localhost" if _is_any(host) else bracketed(host)
    return f"http://{name}:{port}/"


def bracketed(host: str) -> str:
    """Returns a host as written in a URL: an IPv6 address gets brackets."""
    return f"[{host}]" if ":" in host else host


def plain(address: str) -> str:
    """Returns an IPv4 address that an IPv6 socket reports in IPv4 notation."""
    try:
        return str(getattr(ip_address(address), "ipv4_mapped", None) or address)
    except ValueError:  # a name, or nothing
        return address


def check_public_url(url: str) -> None:
    """Refuses a text that is not the URL of a page.

    Raises:
        UserError: It is not http:// or https:// with a host and perhaps a port and a path.
    """
    try:
        parts = urlsplit(url)
        is_good = parts.port != 0 and parts.scheme in ("http", "https")
    except ValueError:  # an invalid port, an unclosed bracket
        parts, is_good = urlsplit(""), False
    if not is_good or not _HOST.fullmatch(parts.netloc.lower()) or parts.query or parts.fragment:
        raise UserError(
            f"--public-url is {url!r}: write it like https://demo.example.org or "
            "https://example.org/demo"
        )


@dataclass(frozen=True)
class Names:
    """The addresses under which the page may be requested.

    Attributes:
        host: The host that it listens on.
        public_url: Its URL for visitors behind a proxy, if there is one.
    """

    host: str
    public_url: str = ""

    def has(self, scope: Scope) -> bool:
        """Returns whether a request names this page in its Host header.

        With another name that resolves to this machine, a foreign web page could make a visitor's
        browser read this one. The address on which a request arrived is always valid.
        """
        match = _HOST.fullmatch(Headers(scope=scope).get("host", "").lower())
        if match is None:
            return False
        known = {*_OF_THIS_MACHINE, bracketed(plain((scope["server"] or ("",))[0]))}
        if not _is_any(self.host):
            known.add(bracketed(self.host).lower())
        public = _HOST.fullmatch(urlsplit(self.public_url or "").netloc.lower())
        if public is not None:
            known.add(public[1])
        return match[1] in known

    def sent_it(self, scope: Scope) -> bool:
        """Returns whether a request comes from this page, or from no web page.

        A browser names the page that makes a request in the header Origin.
        """
        headers = Headers(scope=scope)
        if scope["path"] == "/logout" and headers.get("sec-fetch-site") in _ELSEWHERE:
            return False  # a foreign link or picture has no Origin
        own = {f"{scheme}://{headers.get('host', '')}".lower() for scheme in ("http", "https")}
        if self.public_url:
            parts = urlsplit(self.public_url)
            own.add(f"{parts.scheme}://{parts.netloc}".lower())
        origin = headers.get("origin")
        return origin is None or origin.lower() in own


def _is_any(host: str) -> bool:
    """Returns whether a host means all addresses of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return not host


@dataclass
class _Line:
    """The attempts waiting at one address; the first of them has its turn."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class Logins:
    """A queue of password attempts per address, in which a wrong password takes time.

    Addresses do not delay each other, and nothing is stored about an address without waiting
    attempts.

    Args:
        wrong_seconds: Time of a wrong password.
        longest: Most attempts that may wait at one address.
    """

    def __init__(self, wrong_seconds: float, longest: int = 60) -> None:
        self.wrong_seconds = wrong_seconds
        self._longest = longest
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, client: tuple[str, int] | None) -> AsyncIterator[None]:
        """Waits for the turn of an attempt, and holds it.

        Raises:
            UserError: Too many attempts are waiting.
        """
        name = _network(plain(client[0]) if client else "")
        line = self._lines.setdefault(name, _Line())
        if line.length >= self._longest:
            raise UserError("too many passwords are being tried from your address: wait a minute")
        line.length += 1
        try:
            async with line.turn:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[name]


def _network(address: str) -> str:
    """Returns one visitor's network: an IPv4 address, or the 2**64 addresses of an IPv6 line."""
    try:
        bits = 64 if ip_address(address).version == 6 else 32
        return str(ip_network(f"{address}/{bits}", strict=False))
    except ValueError:  # a name, or nothing
        return address
