"""The gate between browsers and Gradio, for every request and every response.

Calls of the page's functions are rebuilt from only those parts that the page knows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava.errors import UserError
from llava.files import parse_json
from llava.serve.web.address import Logins, Names
from llava.serve.web.answering import STOPPED
from llava.serve.web.arguments import Limits, Patience
from llava.serve.web.inputs import read_upload
from llava.serve.web.messages import Body, Broken, Reply, TooLarge
from llava.serve.web.uploads import Uploads, find_upload

# Bytes of a form around an upload, and of other bodies that a browser sends.
FORM_BYTES = 64 * 1024

# The only paths of Gradio that a page needs before a visitor has logged in, and afterwards. Others
# read URLs, record usage, or are for developers.
_OPEN = re.compile(
    r"/(|config/?|login/?|logout|theme\.css|favicon\.ico|robots\.txt|manifest\.json"
    r"|(assets|static|svelte)/.+)"
)
_KNOWN = re.compile(
    r"/gradio_api/(info/?|upload|upload_progress|queue/(join|data)|cancel|reset/?|heartbeat/[^/]+"
    r"|call/ask(/[^/]+)?|file=.+)"
)
_FILE = "/gradio_api/file="
_UPLOAD = "/gradio_api/upload"
_JOIN, _CALL = "/gradio_api/queue/join", "/gradio_api/call/ask"
_LOGIN = ("/login", "/login/")

_ASKED = 3  # values of a question without the last one, what chooses the tokens
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")

_log = logging.getLogger(__name__)


def read_object(body: bytes) -> dict:
    """Returns the JSON object in a request's body.

    Raises:
        UserError: It is not JSON, has invalid numbers or texts, or is not an object.
    """
    try:
        value = parse_json(body.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"the request is not valid JSON ({error!s:.200})") from error
    if not isinstance(value, dict):
        raise UserError("the request is no JSON object")
    return value


@dataclass(frozen=True)
class Calls:
    """The functions of the page that may be called, and their arguments.

    Gradio trusts other parts of a request: it fetches files from URLs, runs functions of other
    numbers, and fails on bad ones.

    Attributes:
        inputs: Number of values that each function takes, by its number.
        ask: The function that programs may call.
        files: The functions whose first value is an uploaded file.
        folder: The folder of the files that may be read, uploads and examples.
    """

    inputs: Mapping[int, int]
    ask: int
    files: frozenset[int]
    folder: Path

    def rewrite(self, body: bytes, by_program: bool) -> bytes:
        """Returns the JSON body of a call with only the parts that the page reads.

        Args:
            body: The body that was sent.
            by_program: Whether a program calls, which names neither the function nor its session.

        Raises:
            UserError: It is not such a call.
        """
        value = read_object(body)
        function: Any = self.ask
        called: dict[str, object] = {}
        if not by_program:
            function, session = value.get("fn_index"), value.get("session_hash")
            if type(function) is not int or function not in self.inputs:
                raise UserError("the page has no such function: load it again")
            if not isinstance(session, str) or not _SESSION.fullmatch(session):
                raise UserError("the session is none of this page: load it again")
            called = {"fn_index": function, "session_hash": session}
        data = value.get("data")
        if function == self.ask and isinstance(data, list) and len(data) == _ASKED:
            data = [*data, None]
        if not isinstance(data, list) or len(data) != self.inputs[function]:
            raise UserError(
                f"the data of the request are no list of {self.inputs[function]} values"
            )
        called["data"] = [
            self._file(item) if function in self.files and not place else _plain(item)
            for place, item in enumerate(data)
        ]
        return json.dumps(called).encode("ascii")

    def _file(self, value: object) -> dict | None:
        """Returns Gradio's description of a file, made only from the path of an upload."""
        if value is None:
            return None
        path = read_upload(value, self.folder)
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def _plain(value: object) -> object:
    if isinstance(value, (dict, list)):
        raise UserError("a value of the request is neither a text nor a number")
    return value


@dataclass(eq=False)
class Gate:
    """Passes only requests that the page needs, from its own visitors, and not too large.

    Attributes:
        app: The application behind it.
        names: The names of the page.
        uploads: The keeper of uploaded files; Gradio's own way does not remove all of them.
        calls: The calls that the page accepts, and the folder of the files that may be read.
        limits, patience: The limits of the page.
    """

    app: ASGIApp
    names: Names
    uploads: Uploads
    calls: Calls
    limits: Limits
    patience: Patience

    def __post_init__(self) -> None:
        self._logins = Logins(self.patience.wrong_password_seconds)
        self._replies: dict[asyncio.Task, Reply] = {}
        self._is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an ASGI request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reply = Reply(scope, send)
        task: Any = asyncio.current_task()  # in a coroutine there is always one
        self._replies[task] = reply
        try:
            await self._answer(scope, receive, reply)
        except asyncio.CancelledError:
            busy = "too many files are being sent at once: send yours again"
            await reply.end(STOPPED if self._is_stopping else busy, 503)
        except ClientDisconnect:  # nobody is there to read an answer
            pass
        except UserError as error:
            await reply.end(str(error), 400)
        except TooLarge as error:
            await reply.end(str(error), 413)
        except Exception as error:  # Gradio may raise anything on a bad request
            cause = error.__context__ if isinstance(error, Broken) else error
            _log.warning("%s %s: %.200r", scope["method"], ascii(scope["path"])[:100], cause)
            await reply.end("the page can make nothing of this request", 400)
        finally:
            del self._replies[task]

    def stop(self) -> None:
        """Tells all waiting visitors that the page is being stopped; runs in the event loop."""
        self._is_stopping = True
        for task, reply in self._replies.items():
            if reply.is_waited_for:
                task.cancel()

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        path, is_post = scope["path"], scope["method"] == "POST"
        if self._is_stopping:
            raise asyncio.CancelledError
        refusal = self._refusal(scope)
        if refusal is None and not _OPEN.fullmatch(path) and not await self._is_visitor(scope):
            refusal = JSONResponse({"detail": "log in first: load the page again"}, 401)
        if refusal is not None:
            await refusal(scope, receive, reply.send)
            return
        scope = {**scope, "headers": [h for h in scope["headers"] if not _steers(h[0])]}
        room = FORM_BYTES + (self.limits.max_upload_bytes if path == _UPLOAD else 0)
        body = Body(scope, receive, room)
        if path == _UPLOAD and is_post:
            await self._upload(scope, body, reply)
        elif path == "/gradio_api/upload_progress":  # Gradio does not know these uploads
            await Response(media_type="text/event-stream")(scope, receive, reply.send)
        elif path in _LOGIN and is_post:
            await self._login(scope, body, reply)
        else:
            if is_post and path not in _LOGIN:
                await self._make_plain(path, body)
            await self.app(scope, body.receive, reply.send)

    def _refusal(self, scope: Scope) -> Response | None:
        path = scope["path"]
        if not self.names.has(scope):
            text = "this page has another address: whoever serves it can name this one with "
            return PlainTextResponse(text + "--public-url", 400)
        if not self.names.sent_it(scope):
            return PlainTextResponse("another web page may not use this one", 403)
        if not _OPEN.fullmatch(path) and not _KNOWN.fullmatch(path):
            return PlainTextResponse("there is no such page", 404)
        if path.startswith(_FILE) and not find_upload(path.removeprefix(_FILE), self.calls.folder):
            return PlainTextResponse("this file is not for reading", 403)
        return None

    async def _is_visitor(self, scope: Scope) -> bool:
        """Returns whether, for Gradio, the visitor of a request has logged in or need not."""
        seen = []

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def see(message: Message) -> None:
            seen.append(message.get("status"))

        path = "/gradio_api/login_check"
        question = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await self.app({**scope, **question}, nothing, see)
        return seen[0] == 200

    async def _upload(self, scope: Scope, body: Body, reply: Reply) -> None:
        async def receive() -> Message:
            message = await body.receive()
            self.uploads.hear()
            return message

        path = await self.uploads.take(Request(scope, receive))
        await JSONResponse([path])(scope, body.receive, reply.send)

    async def _login(self, scope: Scope, body: Body, reply: Reply) -> None:
        async def send(message: Message) -> None:
            if message.get("status", 200) != 200:
                await asyncio.sleep(self._logins.wrong_seconds)
            await reply.send(message)

        await body.read()
        async with self._logins.turn(scope["client"]):
            await self.app(scope, body.receive, send)

    async def _make_plain(self, path: str, body: Body) -> None:
        """Reduces a request's body to the parts that the page reads."""
        text = await body.read()
        if path in (_JOIN, _CALL):
            body.replace(self.calls.rewrite(text, by_program=path == _CALL))
        else:
            body.replace(json.dumps(read_object(text)).encode("ascii"))


def _steers(header: bytes) -> bool:
    """Returns whether Gradio would take its own address from a header of a request."""
    return header.startswith((b"x-forwarded-", b"x-gradio-")) or header == b"forwarded"
