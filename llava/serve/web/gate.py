"""What every request passes on its way to Gradio, and every response on its way back."""

from __future__ import annotations

import json
import re
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava.serve.web.uploads import NOT_UPLOADED, find_upload

# An upload is wrapped in a form; everything else that a browser sends is short.
FORM_BYTES = 64 * 1024
OTHER_BYTES = 1024 * 1024
# A larger body is read to its end before it is refused, up to so many times of what it may be:
# a browser that is cut off while it sends shows no message.
PATIENCE = 16

# All that the page needs of Gradio. The rest reads addresses, records, or is for developers.
_KNOWN = re.compile(
    r"/(|config/?|login/?|logout|theme\.css|favicon\.ico|robots\.txt|manifest\.json"
    r"|(assets|static|svelte)/.+"
    r"|gradio_api/(info/?|upload|upload_progress|queue/(join|data)|cancel|reset/?|heartbeat/[^/]+"
    r"|startup-events|login_check/?|user/?|token/?|app_id/?|theme\.css|call/ask(/[^/]+)?|file=.+))"
)
_FILE = "/gradio_api/file="
_UPLOAD = "/gradio_api/upload"
_QUESTIONS = ("/gradio_api/queue/join", "/gradio_api/call/ask")
# A browser loads nothing from anywhere else, whatever Gradio's pages ask for.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' "
    "data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Gate:
    """Lets through what the page needs, and nothing that is too large or asks for other files.

    Args:
        app: what is behind it.
        upload_bytes: the largest file.
        folder: of uploads.
    """

    def __init__(self, app: ASGIApp, upload_bytes: int, folder: Path) -> None:
        self._app = app
        self._upload_bytes = upload_bytes
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        path = scope["path"]
        body = _Body(receive, self._upload_bytes + FORM_BYTES if path == _UPLOAD else OTHER_BYTES)
        try:
            refusal = self._refusal(path)
            if refusal is None and path == _UPLOAD:
                await body.read()  # of half an upload, Gradio would leave a file behind
            if refusal is None and scope["method"] == "POST" and path in _QUESTIONS:
                refusal = self._refused_question(await body.read())
            await (refusal or self._app)(scope, body.receive, send)
        except _Gone:
            return
        except _TooLarge:
            await body.drain()
            refusal = PlainTextResponse(f"more than {body.room:,} bytes: send less", 413)
            await refusal(scope, receive, send)

    def _refusal(self, path: str) -> Response | None:
        if not _KNOWN.fullmatch(path):
            return PlainTextResponse("there is no such page", 404)
        if path.startswith(_FILE) and not self._is_upload(path.removeprefix(_FILE)):
            return PlainTextResponse("this file is not for reading", 403)
        return None

    def _refused_question(self, body: bytes) -> Response | None:
        """Gradio would fetch a file from any address that stands in the place of an upload."""
        try:
            paths = _paths_in(json.loads(body))
        except (ValueError, RecursionError):
            return JSONResponse({"detail": "the request is not valid JSON"}, 400)
        if all(self._is_upload(path) for path in paths):
            return None
        return JSONResponse({"detail": NOT_UPLOADED}, 400)

    def _is_upload(self, path: object) -> bool:
        return find_upload(path, self._folder) is not None


def _paths_in(value: object) -> list[object]:
    """What JSON says under the name "path", at any depth."""
    if isinstance(value, list):
        return [path for item in value for path in _paths_in(item)]
    if isinstance(value, dict):
        own = [value["path"]] if "path" in value else []
        return own + [path for item in value.values() for path in _paths_in(item)]
    return []


class _TooLarge(Exception):
    """A body has more bytes than it may."""


class _Gone(Exception):
    """The browser left before its request was whole."""


class _Body:
    """The body of a request, counted as it comes.

    Attributes:
        room: bytes that it may have.
    """

    def __init__(self, receive: Receive, room: int) -> None:
        self._receive = receive
        self.room = room
        self._taken = 0
        self._again: list[Message] = []
        self._is_whole = False

    async def receive(self) -> Message:
        """The next message, as ASGI has it."""
        if self._again:
            return self._again.pop()
        message = await self._receive()
        self._taken += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._taken > self.room:
            raise _TooLarge
        return message

    async def read(self) -> bytes:
        """The whole body, which can be received once more afterwards."""
        pieces = []
        while not self._is_whole:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            pieces.append(message.get("body", b""))
        self._again = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]
        return self._again[0]["body"]

    async def drain(self) -> None:
        """Takes the rest and drops it, as far as patience goes."""
        while not self._is_whole and self._taken <= PATIENCE * self.room:
            message = await self._receive()
            self._taken += len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)


def _with_headers(send: Send) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return add
