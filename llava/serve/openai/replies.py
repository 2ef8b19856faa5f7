"""Answers on their way to a client: whole, or piece by piece as server-sent events."""

from __future__ import annotations

import json
import time
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llava.serve.engines.engine import Engine, Prepared, Request, Token
from llava.serve.openai.answers import Completion, explanation, logprobs_of, usage_of
from llava.serve.openai.errors import ApiError
from llava.serve.openai.metrics import Metrics
from llava.serve.openai.protocol import ChatRequest
from llava.serve.openai.text import AnswerText


def json_response(value: object, status: int = 200, headers: dict | None = None) -> Response:
    """Returns a response of JSON; in ASCII, so that no text can break it."""
    body = json.dumps(value).encode("ascii")
    return Response(body, status, headers, media_type="application/json")


class EventStream:
    """A response of server-sent events, which begins with its first one.

    Args:
        scope, receive, send: of ASGI.

    Attributes:
        has_begun: whether its status has been sent.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.has_begun = False

    async def whole(self, value: dict) -> None:
        """Sends JSON in the place of a stream."""
        await json_response(value)(self._scope, self._receive, self._send)

    async def event(self, value: dict) -> None:
        """Sends an event."""
        await self._begin()
        await self._body(f"data: {json.dumps(value)}\n\n", True)

    async def end(self) -> None:
        """Sends the last event of a stream that is complete."""
        await self._body("data: [DONE]\n\n", False)

    async def fail(self, error: ApiError) -> None:
        """Ends a stream that has begun with an error in the place of its rest."""
        await self._body(f"data: {json.dumps(error.body())}\n\n", False)

    async def _begin(self) -> None:
        if self.has_begun:
            return
        self.has_begun = True
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _body(self, text: str, is_more: bool) -> None:
        body = text.encode("ascii")
        await self._send({"type": "http.response.body", "body": body, "more_body": is_more})


class Reply:
    """The answer to one request.

    Args:
        asked: the request.
        request: the same for the engine.
        engine: generates it.
        metrics: count it.
        frame: of its response.
    """

    def __init__(
        self,
        asked: ChatRequest,
        request: Request,
        engine: Engine,
        metrics: Metrics,
        frame: Completion,
    ) -> None:
        self._asked = asked
        self._request = request
        self._engine = engine
        self._metrics = metrics
        self._frame = frame
        tokenizer = engine.models[request.compensation].language_model.tokenizer
        self._text = AnswerText(tokenizer.decode, asked.stop)
        self._decode = tokenizer.decode
        self._tokens: list[Token] = []
        self._told = 0  # tokens whose log-probabilities were sent

    async def send(self, stream: EventStream) -> None:
        """Sends the answer as it is generated.

        Raises:
            EngineError: the engine failed.
        """
        start = time.perf_counter()
        prepared, reason = None, None
        async with aclosing(self._engine.generate(self._request)) as events:
            async for event in events:
                if isinstance(event, Prepared):
                    prepared, since = event, time.perf_counter()
                    continue
                if not self._tokens:
                    self._metrics.first.observe(time.perf_counter() - start)
                self._tokens.append(event)
                piece = self._text.add(event.id)
                reason = "stop" if self._text.is_stopped else event.reason
                if self._asked.is_stream:
                    await self._send_piece(stream, piece)
                if reason is not None:
                    break
        assert prepared is not None and reason is not None  # by the protocol of engines
        now = time.perf_counter()
        self._metrics.seconds.observe(now - start)
        await self._finish(stream, prepared, reason, now - since)

    async def _send_piece(self, stream: EventStream, piece: str) -> None:
        if not stream.has_begun:
            await stream.event(self._frame.chunk({"role": "assistant", "content": ""}))
        if piece:
            await stream.event(self._frame.chunk({"content": piece}, self._logprobs()))

    async def _finish(
        self, stream: EventStream, prepared: Prepared, reason: str, seconds: float
    ) -> None:
        """Sends the whole answer, or the end of its stream.

        Args:
            stream: where to.
            prepared: the prompt.
            reason: why the answer ended.
            seconds: that it took to generate.
        """
        model = self._engine.models[self._request.compensation]
        usage = usage_of(model, self._request, prepared, len(self._tokens))
        self._metrics.add_usage(usage)
        accm = None
        if self._asked.accm.explain:
            accm = explanation(model, self._request, prepared, seconds)
        piece = self._text.end()
        if not self._asked.is_stream:
            logprobs = self._logprobs()
            await stream.whole(self._frame.whole(self._text.text, reason, usage, logprobs, accm))
            return
        if piece:
            await stream.event(self._frame.chunk({"content": piece}, self._logprobs()))
        last = self._frame.chunk({}, self._logprobs(), reason)
        await stream.event(last if accm is None else last | {"accm": accm})
        if self._asked.has_usage:
            await stream.event(self._frame.usage_chunk(usage))
        await stream.end()

    def _logprobs(self) -> dict | None:
        """Returns the log-probabilities of the tokens since the last call, if they are wanted."""
        if self._asked.top_logprobs is None:
            return None
        told, self._told = self._told, len(self._tokens)
        return logprobs_of(self._tokens[told:], self._text.ids[:told], self._decode)
