"""Requests that no client library would send, byte by byte."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

BOUNDARY = b"----cut"


def connect(address: str, source: str = "127.0.0.1") -> socket.socket:
    """Returns a connection to a page on this machine.

    Args:
        address: Of the page.
        source: Address that it comes from; all of 127.0.0.0/8 is this machine.
    """
    parts = urlsplit(address)
    client = socket.create_connection((parts.hostname, parts.port), 10, (source, 0))
    client.settimeout(60)
    return client


def head(address: str, first: str, *headers: str) -> bytes:
    """Returns the lines before a body, without the empty one."""
    return "\r\n".join(
        [f"{first} HTTP/1.1", f"Host: {urlsplit(address).netloc}", *headers, ""]
    ).encode()


def upload_head(address: str, length: int, *headers: str) -> bytes:
    """Returns the beginning of an upload of so many bytes, up to the file's first."""
    form = f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}"
    lines = head(address, "POST /gradio_api/upload", form, f"Content-Length: {length}", *headers)
    return lines + b"\r\n" + file_part(b"")


def file_part(data: bytes, name: str = "files", filename: str = "a.png") -> bytes:
    """Returns a part of a form with a file, whose form goes on."""
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    return b"--" + BOUNDARY + b"\r\n" + disposition.encode() + b"\r\n\r\n" + data


def ask(address: str, request: bytes, source: str = "127.0.0.1") -> bytes:
    """Sends a request; returns what comes back until the page or a second of silence ends it."""
    with connect(address, source) as client:
        client.sendall(request)
        client.settimeout(1)
        answer = b""
        try:
            while piece := client.recv(65_536):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
        return answer


def read_response(client: socket.socket) -> tuple[int, str]:
    """Reads one response whole, however many packets it comes in.

    Returns:
        Its status and its body; the connection may be used again.
    """
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, response.read().decode()


def seconds_until_cut(
    clients: Sequence[socket.socket], most: float, meanwhile: Callable[[], None] = lambda: None
) -> list[float | None]:
    """Waits until connections are cut.

    Args:
        clients: The connections; whatever comes on them is read.
        most: Seconds that it waits.
        meanwhile: Is called about twice a second.

    Returns:
        After how many seconds each was cut; None where it was not.
    """
    start = time.monotonic()
    cut: dict[socket.socket, float] = {}
    while len(cut) < len(clients) and time.monotonic() - start < most:
        meanwhile()
        left = [client for client in clients if client not in cut]
        for client in select.select(left, [], [], 0.5)[0]:
            try:
                is_open = client.recv(1 << 20)
            except OSError:
                is_open = b""
            if not is_open:
                cut[client] = time.monotonic() - start
    return [cut.get(client) for client in clients]
