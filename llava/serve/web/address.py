"""The address on which the page listens, and the addresses of valid requests."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
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
