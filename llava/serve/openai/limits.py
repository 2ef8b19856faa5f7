"""The limits of the server: of a request, and of those that it has in hand at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from llava.serve.openai.errors import ApiError
from llava.serve.web.messages import Body, TooLarge

# Bodies of more bytes are read a few at a time; the one that has been silent longest makes room.
SMALL_BODY = 64 * 1024
LARGE_BODIES_AT_ONCE = 32


@dataclass(frozen=True)
class Limits:
    """The limits of a request.

    Attributes:
        body_bytes: of a request.
        text_characters: of all messages together.
        new_tokens: of an answer, and of one whose request names no limit.
        seconds: from a whole request to the end of its answer.
        in_flight: requests at once.
    """

    body_bytes: int
    text_characters: int
    new_tokens: int
    seconds: float
    in_flight: int


class Places:
    """The requests that are being answered, of which there is a largest number.

    Args:
        most: that number.

    Attributes:
        taken: how many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Takes a place for the time of an answer.

        Raises:
            ApiError: there is none.
        """
        if self.taken >= self._most:
            raise ApiError(
                f"{self._most} requests are being answered, as many as this server takes: ask "
                "again soon",
                429,
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class BodyReader:
    """Reads the bodies of requests; clients that send slowly cannot fill the memory.

    Args:
        most_bytes: of a body.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._heard: dict[asyncio.Task, float] = {}
        self._ended: set[asyncio.Task] = set()

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Returns the body of a request.

        Raises:
            ApiError: it is too large, or made room for another one.
            ClientDisconnect: its client left.
        """
        task = asyncio.current_task()
        assert task is not None  # in a coroutine there is always one
        taken = 0

        async def hear() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > SMALL_BODY:
                self._make_room(task)
                self._heard[task] = time.monotonic()
            return message

        try:
            return await Body(scope, hear, self._most_bytes).read()
        except TooLarge as error:
            raise ApiError(f"the request has {error}", 413, code="request_too_large") from error
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            raise ApiError(
                "too many large requests are being sent at once: send yours again",
                503,
                code="overloaded",
                headers={"Retry-After": "1"},
            ) from None
        finally:
            self._heard.pop(task, None)
            self._ended.discard(task)

    def _make_room(self, task: asyncio.Task) -> None:
        """Ends the reading that has been silent longest, if one more would be too many."""
        if task not in self._heard and len(self._heard) >= LARGE_BODIES_AT_ONCE:
            silent = min(self._heard, key=self._heard.__getitem__)
            del self._heard[silent]
            self._ended.add(silent)
            silent.cancel()
