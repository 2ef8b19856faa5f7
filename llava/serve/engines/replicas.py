"""The servers of an engine: which of them gets the next request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from llava.errors import UserError, quoted
from llava.serve.engines.engine import Unavailable


class Replica:
    """One server of an engine.

    Args:
        address: of the server.

    Attributes:
        outstanding: requests that it is answering.
        problem: why it gets no requests; None where it does.
        model: the name of its model.
        max_length: positions that its model reads.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.outstanding = 0
        self.problem: str | None = "it was not asked yet"
        self.model = ""
        self.max_length = 0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Counts a request while it is being answered."""
        self.outstanding += 1
        try:
            yield
        finally:
            self.outstanding -= 1


class Replicas:
    """All servers of an engine.

    Args:
        addresses: http://HOST:PORT of each.

    Raises:
        UserError: one is no such address, or is given twice.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        plain = [_checked(address) for address in addresses]
        if len(set(plain)) < len(plain):
            raise UserError("--engine-urls names a server twice: name each once")
        self.all = [Replica(address) for address in plain]

    def choose(self, without: Collection[Replica] = ()) -> Replica:
        """Returns the server with the fewest requests.

        Args:
            without: those that are not wanted.

        Raises:
            Unavailable: there is none.
        """
        there = [each for each in self.all if each.problem is None and each not in without]
        if not there:
            problem = self.problem or "each that was tried failed on this request"
            raise Unavailable(f"no engine can answer now ({problem}): ask again later")
        return min(there, key=lambda replica: replica.outstanding)

    @property
    def problem(self) -> str | None:
        """The reason why no server can answer; None where one can."""
        if any(each.problem is None for each in self.all):
            return None
        return "; ".join(f"{each.address}: {each.problem}" for each in self.all)


def _checked(address: str) -> str:
    """Returns an address without a slash at its end.

    Raises:
        UserError: it is none.
    """
    try:
        parts = urlsplit(address)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, an unclosed bracket
        is_good = False
    if not is_good or parts.query or parts.fragment or parts.path.rstrip("/"):
        raise UserError(
            f"--engine-urls has {quoted(address)}: write addresses like http://127.0.0.1:8001"
        )
    return address.rstrip("/")
