"""Connections for pictures, only to machines of the network that are allowed.

requests and httpx would look a name up again, after it was checked.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from ipaddress import IPv4Address, ip_address, ip_network
from urllib.parse import SplitResult

from llava.errors import UserError, shown

WAY_OUT = "save the picture with a browser, and give the file"
PORTS = {"http": 80, "https": 443}
_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")  # an IPv4 address in its last 32 bits


def look_up(host: str, port: int) -> list[str]:
    """Returns the addresses of a name, from the system.

    Raises:
        OSError, ValueError: there is no such name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Returns whether an IP address is public: global unicast.

    An IPv6 address that stands for an IPv4 address is public only if that one is.
    """
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
    """The limits of what may be fetched.

    Attributes:
        look_up: returns the addresses of a name and a port.
        allows: returns whether an address may be contacted.
        seconds: time for a picture, redirects included.
        most_bytes: largest picture; the same as the web page's largest upload.
        redirects: number of redirects that are followed.
        way_out: the advice in every refusal.
    """

    look_up: Callable[[str, int], Sequence[str]] = look_up
    allows: Callable[[str], bool] = is_public
    seconds: float = 20.0
    most_bytes: int = 10 * 1024 * 1024
    redirects: int = 3
    way_out: str = WAY_OUT


USUAL = Guard()


class Connection(HTTPConnection):
    """A connection to an address that the guard allows; the name is not looked up again.

    Args:
        parts: parts of the URL.
        guard: the allowed addresses.
    """

    def __init__(self, parts: SplitResult, guard: Guard) -> None:
        super().__init__(parts.hostname or "", parts.port or PORTS[parts.scheme], guard.seconds)
        self.default_port = PORTS[parts.scheme]  # not repeated in the request
        self._is_encrypted = parts.scheme == "https"
        self._guard = guard
        self._is_cut = False

    def connect(self) -> None:
        """Connects to the first address that answers, if all addresses of the name are allowed."""
        addresses = self._guard.look_up(self.host, self.port)
        for address in addresses:
            if not self._guard.allows(address):
                host, known = shown(self.host), "" if address == self.host else f" ({address} here)"
                raise UserError(
                    f"{host}{known} is no address of the public internet, and pictures are fetched "
                    f"from no other: {self._guard.way_out}"
                )
        self.sock = _first_that_answers(addresses, self.port, self.timeout)
        if self._is_encrypted:
            self.sock = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()  # not before: from here on, cut can end it
        if self._is_cut:
            self.cut()

    def cut(self) -> None:
        """Ends the connection, also while another thread reads from it."""
        self._is_cut = True
        if (sock := self.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below the encryption


def _first_that_answers(
    addresses: Sequence[str], port: int, seconds: float | None
) -> socket.socket:
    """Returns a connection to one of the addresses.

    Raises:
        OSError: none answers; the error of the last one.
    """
    problem = OSError("its name has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), seconds)
        except OSError as error:
            problem = error
    raise problem
