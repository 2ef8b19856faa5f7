"""A request's body as it arrives, and a response as it is sent."""

from __future__ import annotations

import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

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
