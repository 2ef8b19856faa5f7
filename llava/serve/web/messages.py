"""A connection that keeps the page waiting, a body as it arrives, and a response as it is sent."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from llava.serve.web.arguments import Patience

_STREAM = "text/event-stream"
# A browser loads nothing from elsewhere, whatever Gradio's pages request.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' "
    "data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class TooLarge(Exception):
    """A body exceeds its limit."""


class Broken(Exception):
    """Gradio failed on a request."""


class Body:
    """The body of a request, whose bytes are counted as they arrive.

    Args:
        scope: ASGI's scope of the request.
        receive: Receives its parts, as in ASGI.
        room: Most bytes that it may have.
    """

    def __init__(self, scope: Scope, receive: Receive, room: int) -> None:
        self._scope = scope
        self._receive = receive
        self._room = room
        self._taken = 0
        self._again: bytes | None = None
        said = Headers(scope=scope).get("content-length", "0")
        self._is_too_large = int(said) > room  # h11 passes only digits

    async def receive(self) -> Message:
        """Returns the next ASGI message.

        Raises:
            TooLarge: The body exceeds its limit.
        """
        if self._again is not None:
            body, self._again = self._again, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._is_too_large:
            raise TooLarge(f"more than {self._room:,} bytes: send less")
        message = await self._receive()
        self._taken += len(message.get("body", b""))
        self._is_too_large = self._taken > self._room
        return message if not self._is_too_large else await self.receive()

    async def read(self) -> bytes:
        """Returns the whole body, which can then be received again.

        Raises:
            TooLarge: The body exceeds its limit.
            ClientDisconnect: The browser left before its end.
        """
        body = await Request(self._scope, self.receive).body()
        self.replace(body)
        return body

    def replace(self, body: bytes) -> None:
        """Replaces the body."""
        self._again = body


class Reply:
    """The response to a request, which can be ended with a message at any time.

    Args:
        scope: ASGI's scope of the request.
        send: Sends the response's parts, as in ASGI.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._has_begun = self._has_ended = self._is_stream = False

    @property
    def is_waited_for(self) -> bool:
        """Whether the response has not begun, or is a stream without a known end."""
        return not self._has_ended and (self._is_stream or not self._has_begun)

    async def send(self, message: Message) -> None:
        """Passes an ASGI message on.

        Raises:
            Broken: It is only Gradio's message of an internal error.
        """
        if message["type"] == "http.response.start":
            if message["status"] == 500:
                raise Broken
            self._has_begun = True
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            self._is_stream = headers.get("content-type", "").startswith(_STREAM)
        else:
            self._has_ended = not message.get("more_body", False)
        await self._send(message)

    async def end(self, text: str, status: int) -> None:
        """Ends the response with a reason, in the form in which it has begun."""
        if not self._has_begun:
            is_form = self._scope["path"] in ("/gradio_api/upload", "/login")
            response = (
                PlainTextResponse(text, status)
                if is_form
                else JSONResponse({"detail": text}, status)
            )
            await response(self._scope, None, self.send)
        elif self._is_stream and not self._has_ended:
            await self.send({"type": "http.response.body", "body": _last_words(self._scope, text)})


def _last_words(scope: Scope, text: str) -> bytes:
    """Returns the end of an event stream, in the form for the page or a program."""
    if scope["path"].startswith("/gradio_api/call/"):
        return f"event: error\ndata: {json.dumps(text)}\n\n".encode("ascii")
    if scope["path"] != "/gradio_api/queue/data":
        return b""
    words = [
        {"msg": "unexpected_error", "message": text, "success": False},
        {"msg": "close_stream"},
    ]
    return "".join(f"data: {json.dumps(each)}\n\n" for each in words).encode("ascii")


class Connection(H11Protocol):
    """uvicorn's connection, which also records when bytes arrive and leave.

    uvicorn limits the time between two requests, not the time in which a request arrives.

    Args:
        patience: The limits of waiting.

    Attributes:
        heard: Arrival of its last byte, by time.monotonic.
    """

    def __init__(self, *args: Any, patience: Patience, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience = patience
        self.heard = self._began = time.monotonic()
        self._taken = 0
        self._is_idle = False
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Handles asyncio's event: makes room for this connection among the others."""
        there = [each for each in self.connections if not each.transport.is_closing()]
        waited_for = [each for each in there if each.is_waited_for]
        if len(there) >= self._patience.connections - 1 and waited_for:
            min(waited_for, key=lambda each: each.heard).transport.abort()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Handles asyncio's event: receives bytes."""
        self.heard = time.monotonic()
        if self._is_idle:
            self._began, self._is_idle = self.heard, False
        self._taken += len(data)
        had_head = self._has_head
        super().data_received(data)
        if self._has_head and not had_head:
            self._began, self._taken = self.heard, len(data)

    def on_response_complete(self) -> None:
        """Handles uvicorn's event: waits for the next request from now on."""
        self._began, self._is_idle = time.monotonic(), True
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Handles asyncio's event: records that the browser does not read its response."""
        self._unread_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Handles asyncio's event: records that the browser reads again."""
        self._unread_since = None
        super().resume_writing()

    @property
    def is_waited_for(self) -> bool:
        """Whether its next or present request is incomplete."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    @property
    def _has_head(self) -> bool:
        return self.conn.their_state is not h11.IDLE

    def is_overdue(self, now: float) -> bool:
        """Returns whether it has kept the page waiting for too long."""
        patience = self._patience
        if self._unread_since is not None:
            return now - self._unread_since > patience.unread_seconds
        if not self.is_waited_for or self.flow.read_paused:  # the page must act next
            return False
        if not self._has_head:
            return now - self._began > (
                patience.idle_seconds if self._is_idle else patience.head_seconds
            )
        if self.cycle.response_complete and now - self._began > patience.refused_seconds:
            return True  # its remaining bytes are dropped
        silent = now - self.heard
        due = patience.bytes_per_second * (now - self._began - patience.silent_seconds)
        return silent > patience.silent_seconds or self._taken < due


def cut_overdue(connections: Iterable[Connection]) -> None:
    """Closes the connections that have kept the page waiting for too long."""
    now = time.monotonic()
    for connection in list(connections):
        if connection.is_overdue(now):
            connection.transport.abort()
