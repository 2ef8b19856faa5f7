"""Sends one request, and again where the connection is bad: bounded in time, tries and bytes.

The client is huggingface_hub's. Its retries are not used: they keep no part of a file, do not
notice a connection that is too slow, and wait for as long as a server says.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from huggingface_hub import close_session, get_session
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
from tqdm import tqdm

from llava.download.errors import Refused, Unreachable, reason

_PASSING = (408, 429, 500, 502, 503, 504)
# No file has as many bytes as 19 digits say.
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/(?:([0-9]{1,18})|\*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Network:
    """How the network is reached, and how bad a connection may be.

    Attributes:
        endpoint: another hub; None takes the library's, which HF_ENDPOINT names.
        timeout: seconds without a byte after which a connection counts as cut; the head of an
            answer may take four times as long.
        most_unsaid: largest size in bytes of a file whose size the server does not say.
        slowest: bytes a second, over ``timeout`` seconds; fewer count as none.
        tries: how many in a row may fetch nothing new.
        wait: seconds before the second try; the time doubles before each further one.
        longest_wait: seconds; a server that asks for more (Retry-After) is left alone.
    """

    endpoint: str | None = None
    timeout: float = 30.0
    most_unsaid: int = 2**30
    slowest: float = 100.0
    tries: int = 4
    wait: float = 1.0
    longest_wait: float = 600.0


USUAL = Network()


@dataclass(frozen=True)
class Address:
    """A file of the network.

    Attributes:
        url: where it is.
        headers: are sent with each request, for example a login.
        network: how it is reached.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    network: Network = USUAL


@dataclass(frozen=True)
class Answer:
    """The answer of a server.

    Attributes:
        status: 200, all of the file; 206, a part of it; 416, it has no such part.
        start: where its bytes begin in the file; None where the server does not say.
        size: of the whole file in bytes; None where the server does not say.
        has_end: whether a cut connection differs from the end of the file.
        edition: differs between two editions of the file.
        is_page: whether it is a web page, which none of our files is.
        pieces: the bytes, as they come.
    """

    status: int
    start: int | None
    size: int | None
    has_end: bool
    edition: str
    is_page: bool
    pieces: Iterator[bytes]


class Busy(ConnectionError):
    """An error of a server that may pass, and for how many seconds it asks to be left alone."""

    def __init__(self, says: str, wait: float | None) -> None:
        super().__init__(says)
        self.wait = wait


class Changed(ConnectionError):
    """The file on the server is not the one of which a part was fetched."""


def retry(
    once: Callable[[], Result], network: Network, progress: Callable[[], int] = lambda: 0
) -> Result:
    """Tries again after a cut connection, until several tries in a row have fetched nothing new.

    Args:
        once: one try.
        network: how many tries, and how long to wait between them.
        progress: returns how many bytes are here; new ones begin the count of tries again, unless
            they came too slowly.

    Raises:
        Unreachable: all tries failed, or the server asks for too long a wait.
    """
    left, most, pause, changes = network.tries, progress(), network.wait, 0
    while True:
        began = time.monotonic()
        try:
            return once()
        except OfflineModeIsEnabled:
            raise
        except (HTTPError, ConnectionError) as error:
            cut = error
        if isinstance(cut, Changed):
            most, changes = 0, changes + 1
        passed = time.monotonic() - began
        if progress() - most > (network.slowest * passed if passed >= network.timeout else 0):
            left, pause = network.tries, network.wait
        else:
            left -= 1
        most = max(most, progress())
        if not left or changes == network.tries:
            raise Unreachable(reason(cut)) from cut
        time.sleep(_pause(cut, pause, network))
        pause *= 2


def _pause(cut: Exception, pause: float, network: Network) -> float:
    """Returns how long to wait: what the server asks for, if it asks."""
    if not isinstance(cut, Busy) or cut.wait is None:
        return pause
    if cut.wait > network.longest_wait:
        raise Unreachable(
            f"{reason(cut)} and asks to be left alone for {cut.wait:,.0f} seconds: wait so long"
        ) from cut
    wait = max(pause, cut.wait)
    tqdm.write(f"{reason(cut)}: trying again in {wait:,.0f} s, as it asks", file=sys.stderr)
    return wait


@contextmanager
def request(
    address: Address, start: int | None = None, stop: int | None = None
) -> Iterator[Answer]:
    """Requests a file once, or its bytes from start to stop (without it).

    Raises:
        HTTPError, ConnectionError: another try may succeed.
        Refused: another try would not.
    """
    # Packed on the way, neither lengths nor parts would be those of the file.
    headers = {**address.headers, "Accept-Encoding": "identity"}
    if start is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    timeout = address.network.timeout
    with ExitStack() as stack:
        try:
            stream = get_session().stream("GET", address.url, headers=headers, timeout=timeout)
            response = _in_time(lambda: stack.enter_context(stream), 4 * timeout)
        except NotInTime:
            close_session()  # cuts the connection, so that the thread ends
            raise ConnectionError(f"{address.url} did not begin to answer in time") from None
        except (HTTPError, OSError):
            raise
        except Exception as error:  # errors about addresses have no ancestor that has a name here
            raise Refused(f"{address.url} cannot be asked for: {reason(error)}") from error
        _check(response, address.url)
        yield _answer(response, address.network)


def _in_time(work: Callable[[], Result], seconds: float) -> Result:
    """Returns the result of work that is done in time.

    The client's time limit begins again with each byte: a server that sends the head of its answer
    byte by byte, or sends status 100 for ever, would hold it for ever. So it waits in a thread.

    Raises:
        NotInTime: the work takes longer; the thread is left to itself.
    """
    outcome: Future[Result] = Future()

    def settle() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=settle, daemon=True).start()
    return outcome.result(seconds)


def _check(response, url: str) -> None:
    """Raises for an answer without a file: Busy where that may pass, else Refused."""
    status, headers = response.status_code, response.headers
    if status in _PASSING:
        raise Busy(f"{url} answered {status}", _asked_wait(headers.get("Retry-After", "")))
    is_unknown = status == 401 or headers.get("X-Error-Code") == "RepoNotFound"
    if status in (401, 403):
        raise Refused(f"{url} answered {status}: it asks for a login or a permission", is_unknown)
    if status not in (200, 206, 416):
        gone = ": it is not there any more" if status in (404, 410) else ""
        raise Refused(f"{url} answered {status}{gone}", is_unknown)
    packed = headers.get("Content-Encoding") or "identity"
    if packed.lower() != "identity":
        raise Refused(f"{url} comes packed ({packed[:40]!r}), which was not asked for")


def _asked_wait(text: str) -> float | None:
    """Returns the seconds of a Retry-After, a number or a date; None where it says nothing."""
    if re.fullmatch(r"[0-9]+", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _answer(response, network: Network) -> Answer:
    headers, status = response.headers, response.status_code
    length = _LENGTH.fullmatch(headers.get("Content-Length", ""))
    start: int | None = 0
    size = None if length is None else int(length[0])
    if status != 200:
        part = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        start, size = (
            (None if n is None else int(n) for n in part.groups()) if part else (None, None)
        )
    is_chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
    return Answer(
        status,
        start,
        size,
        has_end=length is not None or is_chunked,
        edition=f"{headers.get('ETag') or headers.get('Last-Modified') or ''} {size}",
        is_page=headers.get("Content-Type", "").lower().startswith("text/html"),
        pieces=_pieces(response, network),
    )


def _pieces(response, network: Network) -> Iterator[bytes]:
    """Yields the bytes as they come; raises for a connection that is too slow."""
    since, came = time.monotonic(), 0
    for piece in response.iter_raw():
        yield piece
        came += len(piece)
        passed = time.monotonic() - since
        if passed >= network.timeout:
            if came < network.slowest * passed:
                raise ConnectionError(f"only {came:,} bytes came in {passed:.0f} seconds")
            since, came = time.monotonic(), 0
