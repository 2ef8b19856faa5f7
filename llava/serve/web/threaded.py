"""uvicorn in a thread of its own: what the page and the server with OpenAI's interface share."""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from llava.errors import UserError
from llava.serve.web.arguments import Patience
from llava.serve.web.messages import Connection, cut_overdue


class ThreadedServer(uvicorn.Server):
    """Serves an application in a thread, and closes connections that keep it waiting.

    Args:
        app: answers the requests.
        patience: limits of waiting for clients.
        what: names the application in an error.
        settings: others of uvicorn.Config.
    """

    def __init__(self, app: ASGIApp, patience: Patience, what: str, **settings: Any) -> None:
        self._end_seconds = patience.end_seconds
        self._what = what
        self.problem: UserError | None = None
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(Connection, patience=patience),
                ws="none",
                log_config=None,
                log_level="error",  # no lines about clients that send nonsense
                access_log=False,
                server_header=False,
                limit_concurrency=patience.connections,
                timeout_keep_alive=int(patience.idle_seconds),
                timeout_notify=1,
                callback_notify=self.look_around,
                **settings,
            )
        )

    def start(self, listener: socket.socket) -> None:
        """Starts serving in its own thread, and returns once it serves.

        Raises:
            UserError: it cannot serve.
        """
        self._thread = threading.Thread(
            target=self.run, kwargs={"sockets": [listener]}, daemon=True, name="server"
        )
        self._thread.start()
        while not self.started:
            self._thread.join(0.01)
            if self.problem is not None:
                raise self.problem
            if not self._thread.is_alive():
                raise UserError(f"{self._what}: the lines above say why")

    def end(self, seconds: float) -> None:
        """Ends the thread, or leaves it after some seconds."""
        self.should_exit = True
        self._thread.join(seconds)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to serve, as uvicorn does."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def look_around(self) -> None:
        """Does what is due every second."""
        cut_overdue(self.server_state.connections)
