"""Pictures by their address: one guarded way to them, for chat, Python and single questions.

Benchmarks and the web page never come here. What the network is asked for is checked where the
connection is made, so redirects and names that change their meaning (DNS rebinding) lead nowhere
else. Proxies of the environment are not used: one would look names up by itself, behind the guard.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import IPv4Address, ip_address, ip_network
from os import PathLike
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from PIL import Image

from llava.errors import UserError, quoted, shown
from llava.mm_utils import load_image
from llava.version import find_version

WAY_OUT = "save the picture with a browser, and give the file"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_KINDS = "image/png, image/jpeg, image/webp, image/gif, image/*;q=0.5"
_MOVED = (301, 302, 303, 307, 308)
_CHUNK = 1 << 16  # bytes
_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")  # an IPv4 address in its last 32 bits


def look_up(host: str, port: int) -> list[str]:
    """Returns the addresses of a name, as the system has them.

    Raises:
        OSError, ValueError: there is no such name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(address[0] for *_, address in found))


def is_public(address: str) -> bool:
    """Tells whether an IP address is one of the public internet: global unicast, and so is the
    IPv4 address that an IPv6 address may stand for."""
    ip = ip_address(address)
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is None:
            return ip in _GLOBAL_UNICAST and ip.is_global
        ip = inner
    return ip.is_global and not ip.is_multicast


@dataclass(frozen=True)
class Guard:
    """What may be fetched, and how much of it.

    Attributes:
        look_up: gives the addresses of a name and a port.
        allows: tells whether an address may be asked.
        seconds: that a picture may take in all, redirects included.
        most_bytes: of a picture; as many as the web page takes of an upload.
        redirects: that are followed.
    """

    look_up: Callable[[str, int], Sequence[str]] = look_up
    allows: Callable[[str], bool] = is_public
    seconds: float = 20.0
    most_bytes: int = 10 * 1024 * 1024
    redirects: int = 3


USUAL = Guard()


def is_url(source: object) -> bool:
    """Tells whether an image is named by an address of the network, and not by a path."""
    return isinstance(source, str) and _URL.match(source) is not None


def open_image(
    source: str | PathLike | bytes, upright: bool = False, guard: Guard = USUAL
) -> Image.Image:
    """Reads an image as load_image does, by its address (http, https) too.

    Raises:
        UserError: as load_image; or it cannot be fetched, or the guard does not let it.
    """
    if not is_url(source):
        return load_image(source, upright)
    return load_image(fetch(source, guard), upright, f"the image {shown(source)}")


def fetch(url: str, guard: Guard = USUAL) -> bytes:
    """Returns what lies at an address.

    Raises:
        UserError: it cannot be fetched, or the guard does not let it.
    """
    visit, outcome = _Visit(guard), Future()
    # In a thread, since nothing else bounds the time that the system takes to look a name up.
    threading.Thread(target=_settle, args=(outcome, visit, url), daemon=True).start()
    try:
        return outcome.result(guard.seconds)
    except NotInTime:
        raise UserError(
            f"{shown(url)} could not be fetched (not there in {guard.seconds:g} seconds): {WAY_OUT}"
        ) from None
    finally:
        visit.stop()


def _settle(outcome: Future, visit: _Visit, url: str) -> None:
    try:
        outcome.set_result(visit.fetch(url))
    except BaseException as error:
        outcome.set_exception(error)


class _Visit:
    """The way to one picture, over redirects.

    Args:
        guard: what may be fetched.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._connection: _Connection | None = None

    def stop(self) -> None:
        """Cuts the line, whatever it is doing."""
        if self._connection is not None:
            self._connection.cut()

    def fetch(self, url: str) -> bytes:
        """Returns what lies at an address; see the function of this name."""
        where = url
        for _ in range(self._guard.redirects + 1):
            parts = _split(where)
            with _told(where):
                self._connection = _Connection(parts, self._guard)
                try:
                    response = self._ask(parts)
                    if response.status not in _MOVED:
                        return self._body(response, where)
                    where = urljoin(where, response.headers.get("Location") or "")
                finally:
                    self._connection.close()
        raise UserError(
            f"{shown(url)} leads to more than {self._guard.redirects} other addresses one after "
            f"the other: {WAY_OUT}"
        )

    def _ask(self, parts: SplitResult) -> HTTPResponse:
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
        headers = {"User-Agent": f"llava-accm/{find_version()}", "Accept": _KINDS}
        self._connection.request("GET", f"{path}?{query}" if query else path, headers=headers)
        return self._connection.getresponse()

    def _body(self, response: HTTPResponse, where: str) -> bytes:
        """Returns what an answer brings.

        Raises:
            UserError: no picture, or too large.
            ConnectionError: it ends too early.
        """
        status, headers, most = response.status, response.headers, self._guard.most_bytes
        if status != 200:
            gone = ": it is not there (any more)" if status in (404, 410) else ""
            raise ConnectionError(f"it answered {status}{gone}")
        if headers.get_content_type() == "text/html":
            raise UserError(f"{shown(where)} gives a web page in place of a picture: {WAY_OUT}")
        if (packed := headers.get("Content-Encoding", "identity")).lower() != "identity":
            raise ConnectionError(f"it comes packed ({packed[:40]}), which was not asked for")
        body, said = bytearray(), response.length or 0
        while max(said, len(body)) <= most and (chunk := response.read(_CHUNK)):
            body += chunk
        if max(said, len(body)) > most:
            raise UserError(
                f"{shown(where)} has more than {most:,} bytes, which are fetched at most: {WAY_OUT}"
            )
        if response.length:
            raise ConnectionError(f"the line was cut {response.length:,} bytes before its end")
        return bytes(body)


class _Connection(HTTPConnection):
    """A connection to an address that the guard has let pass; it looks no name up again.

    Args:
        parts: of where to.
        guard: what may be asked.
    """

    def __init__(self, parts: SplitResult, guard: Guard) -> None:
        super().__init__(parts.hostname, parts.port or _PORTS[parts.scheme], guard.seconds)
        self.default_port = _PORTS[parts.scheme]  # which needs no mention in the request
        self._is_encrypted = parts.scheme == "https"
        self._guard = guard
        self._is_cut = False

    def connect(self) -> None:
        """Connects to the first address that answers, if all of the name's are allowed."""
        addresses = self._guard.look_up(self.host, self.port)
        for address in addresses:
            if not self._guard.allows(address):
                host, known = shown(self.host), "" if address == self.host else f" ({address} here)"
                raise UserError(
                    f"{host}{known} is no address of the public internet, and pictures are fetched "
                    f"from no other: {WAY_OUT}"
                )
        self.sock = _first_that_answers(addresses, self.port, self.timeout)
        if self._is_encrypted:
            self.sock = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()  # not before it can be cut
        if self._is_cut:
            self.cut()

    def cut(self) -> None:
        """Ends the connection under the hands of whoever reads from it."""
        self._is_cut = True
        if (sock := self.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below the encryption


def _first_that_answers(addresses: Sequence[str], port: int, seconds: float) -> socket.socket:
    """Returns a connection to one of the addresses.

    Raises:
        OSError: none answers; says what the last one said.
    """
    problem = OSError("its name has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), seconds)
        except OSError as error:
            problem = error
    raise problem


def _split(url: str) -> SplitResult:
    """Returns the parts of an address.

    Raises:
        UserError: it is none that could be asked.
    """
    try:
        parts = urlsplit(url)
        is_whole = parts.hostname and parts.port != 0
    except ValueError as error:
        raise UserError(f"{shown(url)} is no address of a picture ({error}): check it") from error
    if parts.scheme not in _PORTS:
        raise UserError(
            f"{shown(url)} begins with {quoted(parts.scheme)}, and pictures are fetched by http "
            f"and https only: {WAY_OUT}"
        )
    if not is_whole:
        raise UserError(f"{shown(url)} names no machine to ask: check it")
    return parts


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turns what stands in the way into one line."""
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
    raise UserError(f"{shown(url)} could not be fetched ({shown(says)}): {WAY_OUT}")
