"""The server as an ASGI application: who may ask for what, and what comes back."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from llava.errors import UserError
from llava.serve.engines.engine import Engine, EngineError, Unavailable
from llava.serve.openai.answers import Completion
from llava.serve.openai.asking import Asker
from llava.serve.openai.errors import ApiError, no_model
from llava.serve.openai.limits import BodyReader, Limits, Places
from llava.serve.openai.metrics import Metrics
from llava.serve.openai.protocol import ChatRequest, read_request
from llava.serve.openai.replies import EventStream, Reply, json_response
from llava.serve.web.address import Names

_STOPPING = "the server is being stopped: ask again when it is back"
_RETRY = {"Retry-After": "5"}
_MODELS = "/v1/models"
_METHODS = {
    "/v1/chat/completions": "POST",
    _MODELS: "GET",
    "/health": "GET",
    "/metrics": "GET",
}

_log = logging.getLogger(__name__)


class App:
    """Answers requests.

    Args:
        engine: generates the answers.
        asker: makes questions for it.
        metrics: count them.
        limits: of requests.
        model: the name under which clients know the model.
        version: of the server.
        key: that clients have to give; None if everybody may ask.
        names: the addresses of the server, one of which a request without a key must name.
    """

    def __init__(
        self,
        engine: Engine,
        asker: Asker,
        metrics: Metrics,
        limits: Limits,
        model: str,
        version: str,
        key: str | None,
        names: Names,
    ) -> None:
        self._engine = engine
        self._asker = asker
        self._metrics = metrics
        self._seconds = limits.seconds
        self._places = Places(limits.in_flight)
        self._bodies = BodyReader(limits.body_bytes)
        self._model = model
        self._version = version
        self._key = key
        self._names = names
        self._since = int(time.time())
        self._is_stopping = False
        self._running: set[asyncio.Task] = set()

    @property
    def in_flight(self) -> int:
        """The number of requests that are being answered."""
        return self._places.taken

    def refuse_new(self) -> None:
        """Answers no new requests from now on."""
        self._is_stopping = True

    def end_running(self) -> None:
        """Ends the answers that are under way; runs in the event loop."""
        for task in self._running:
            task.cancel(_STOPPING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an ASGI request."""
        stream = EventStream(scope, receive, send)
        try:
            status = await self._answer(scope, receive, send, stream)
        except ClientDisconnect:  # nobody is there to read an answer
            self._metrics.left.add(1)
            return
        except Exception as error:
            told = _told(error)
            status = told.status
            if stream.has_begun:
                await stream.fail(told)
            else:
                response = json_response(told.body(), told.status, told.headers)
                await response(scope, receive, send)
        self._metrics.requests.add(1, str(status))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, stream: EventStream) -> int:
        """Answers a request; returns its HTTP status."""
        path = scope["path"]
        self._admit(scope)
        if path == "/health":
            problem = _STOPPING if self._is_stopping else self._engine.problem
            value, status = {"status": problem or "ok"}, 503 if problem else 200
            await json_response(value, status)(scope, receive, send)
            return status
        if path == "/metrics":
            text = self._metrics.text(self.in_flight, self._engine.waiting)
            await PlainTextResponse(text)(scope, receive, send)
        elif path == _MODELS:
            await stream.whole({"object": "list", "data": [self._about_model()]})
        elif (name := _named_model(path)) is not None:
            if name != self._model:
                raise no_model(name, self._model)
            await stream.whole(self._about_model())
        else:
            await self._chat(scope, receive, stream)
        return 200

    def _admit(self, scope: Scope) -> None:
        """Refuses requests to other places, and of others than clients.

        Raises:
            ApiError: says why.
        """
        path, headers = scope["path"], Headers(scope=scope)
        if path == "/health":
            return
        if self._key is not None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            is_known = hmac.compare_digest(given.strip().encode(), self._key.encode())
            if scheme.lower() != "bearer" or not is_known:
                raise ApiError(
                    "the key is missing or wrong: give the server's as Authorization: Bearer KEY",
                    401,
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        elif not self._names.has(scope):
            # With another name that leads here, a web page could ask from a visitor's browser.
            raise ApiError(
                "this server has another address, and answers under other names only with a key "
                "(--api-key-file)",
                403,
            )
        method = _METHODS.get(path if _named_model(path) is None else _MODELS)
        if method is None:
            raise ApiError(f"there is no {path[:100]!r} here", 404, code="not_found")
        if scope["method"] != method:
            raise ApiError(f"{path[:100]!r} takes {method} only", 405, headers={"Allow": method})
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            raise ApiError("the request must be of the Content-Type application/json", 415)

    async def _chat(self, scope: Scope, receive: Receive, stream: EventStream) -> None:
        """Answers a request for a chat completion."""
        self._refuse_if_stopping()
        asked = read_request(await self._bodies.read(scope, receive))
        self._refuse_if_stopping()  # its body may have come slowly
        with self._places.place():
            await self._attended(receive, self._complete(asked, stream))

    def _refuse_if_stopping(self) -> None:
        if self._is_stopping:
            raise ApiError(_STOPPING, 503, headers=_RETRY)

    async def _complete(self, asked: ChatRequest, stream: EventStream) -> None:
        request = await self._asker.ask(asked)
        frame = Completion(self._model, self._version)
        await Reply(asked, request, self._engine, self._metrics, frame).send(stream)

    async def _attended(self, receive: Receive, work: Coroutine[None, None, None]) -> None:
        """Does the work of an answer while its client waits.

        Raises:
            ClientDisconnect: the client left.
            ApiError: it took too long, or the server is being stopped.
        """
        working = asyncio.create_task(work)
        leaving = asyncio.create_task(_departure(receive))
        self._running.add(working)
        try:
            await asyncio.wait(
                (working, leaving), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if working.cancelled():
                raise ApiError(_STOPPING, 503, headers=_RETRY)
            if working.done():
                working.result()
            elif leaving.done():
                raise ClientDisconnect
            else:
                raise ApiError(
                    f"the answer took longer than the {self._seconds:g} seconds that it may take",
                    504,
                    code="timeout",
                )
        finally:
            self._running.discard(working)
            for task in (working, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    def _about_model(self) -> dict:
        """Returns OpenAI's model object."""
        return {
            "id": self._model,
            "object": "model",
            "created": self._since,
            "owned_by": "llava-accm",
        }


def _named_model(path: str) -> str | None:
    """Returns the name of the one model that a path is about; None where it is about another."""
    return path.removeprefix(f"{_MODELS}/") if path.startswith(f"{_MODELS}/") else None


async def _departure(receive: Receive) -> None:
    """Waits until a client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _told(error: Exception) -> ApiError:
    """Returns the error that a client sees; one that nobody expected goes to the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UserError):
        return ApiError(str(error))
    if isinstance(error, Unavailable):
        return ApiError(str(error), 503, code="unavailable", headers=_RETRY)
    if not isinstance(error, EngineError):
        _log.error("a request failed", exc_info=error)
        return ApiError("the server failed on this request, and its log says why: report it", 500)
    return ApiError(str(error), 500)
