"""Slow checking of passwords."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from llava.errors import UserError
from llava.serve.web.address import plain


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
