"""A visitor's connection, closed when it keeps the page waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from llava.serve.web.arguments import Patience


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
        self._taken += len(data)
        had_head = self._has_head
        super().data_received(data)
        if self._has_head and not had_head:
            self._began, self._taken = self.heard, len(data)

    def on_response_complete(self) -> None:
        """Handles uvicorn's event: waits for the next request from now on."""
        self._began = time.monotonic()
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
            return now - self._began > patience.head_seconds
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
