"""The server: engine, application and uvicorn, from the start to the end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from llava.compensations import NOTHING
from llava.errors import UserError
from llava.mm_utils import padded_view
from llava.model.builder import load_from_arguments
from llava.model.llava_arch import LlavaAccm
from llava.model.token_pruning.registry import resolved
from llava.serve.engines.engine import Engine, Models
from llava.serve.engines.local import LocalEngine
from llava.serve.openai.app import App
from llava.serve.openai.arguments import LOCAL, VLLM, ServeArguments
from llava.serve.openai.asking import Asker
from llava.serve.openai.images import ImageReader
from llava.serve.openai.limits import Limits
from llava.serve.openai.metrics import Metrics
from llava.serve.web.address import Names, listen, shown_address
from llava.serve.web.arguments import Patience
from llava.serve.web.threaded import ThreadedServer
from llava.version import find_version


def run(args: ServeArguments, key: str | None) -> int:
    """Serves until the process is stopped."""
    resolved(args.method)
    model = load_from_arguments(replace(args, device=args.front_device or args.device))
    if args.engine == VLLM:
        from llava.serve.engines.vllm import without_layers  # with it comes httpx

        model = without_layers(model)
    with opened(model, args, key) as address:
        print(f"{_name(args)} at {address}v1 (Ctrl+C ends it)", flush=True)
        threading.Event().wait()
    return 0


@contextmanager
def opened(
    model: LlavaAccm, args: ServeArguments, key: str | None = None, patience: Patience = Patience()
) -> Iterator[str]:
    """Serves a model in threads of this process; yields the address, with a slash at its end.

    Raises:
        UserError: it cannot be served there, or no question can be answered with these flags.
    """
    metrics = Metrics()
    engine = _engine(model, args, metrics)
    with listen(args.host, args.port) as listener:
        app = _app(engine, args, key, metrics)
        server = _Server(app, engine, patience)
        server.start(listener)
        try:
            yield shown_address(args.host, listener.getsockname()[1])
        finally:
            server.stop(args.drain_seconds)


def _engine(model: LlavaAccm, args: ServeArguments, metrics: Metrics) -> Engine:
    compensation = args.compensation_name if model.compensator is not None else NOTHING
    models = Models(model, compensation)
    how = (args.batch_size, args.batch_ms / 1000, args.cache_bytes, metrics.add_batch)
    if args.engine == LOCAL:
        return LocalEngine(models, *how)
    from llava.serve.engines.vllm import VllmEngine  # with it comes httpx

    return VllmEngine(models, args.engine_urls, *how)


def _app(engine: Engine, args: ServeArguments, key: str | None, metrics: Metrics) -> App:
    limits = Limits(
        body_bytes=args.max_request_bytes,
        text_characters=args.max_characters,
        new_tokens=args.max_new_tokens,
        seconds=args.max_seconds,
        in_flight=args.max_in_flight,
    )
    name = _name(args)
    view = _view(engine.models.usual_model)
    images = ImageReader(args.image_hosts, args.max_image_bytes, args.max_pixels, view)
    return App(
        engine=engine,
        asker=Asker(engine, images, limits, name, args.method),
        metrics=metrics,
        limits=limits,
        model=name,
        version=f"accm-{find_version()}",
        key=key,
        names=Names(args.host),
    )


def _view(model: LlavaAccm) -> Callable[[Image.Image], Image.Image]:
    """Returns what makes an image as small as the model sees it."""
    if model.backbone.image_aspect_ratio != "pad":
        return lambda image: image
    return partial(padded_view, processor=model.image_processor)


def _name(args: ServeArguments) -> str:
    """Returns the name under which clients know the model."""
    return args.served_model_name or Path(args.model_path).resolve().name


class _Server(ThreadedServer):
    """The server with OpenAI's interface.

    Args:
        app: answers the requests.
        engine: generates the answers.
        patience: limits of waiting for clients.
    """

    def __init__(self, app: App, engine: Engine, patience: Patience) -> None:
        self._app = app
        self._engine = engine
        super().__init__(
            app,
            patience,
            "the server cannot start",
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=int(patience.end_seconds) or 1,
        )

    def stop(self, drain_seconds: float) -> None:
        """Refuses new requests, waits for running answers, tells the others, and ends."""
        end = time.monotonic() + drain_seconds
        self._app.refuse_new()
        while self._app.in_flight and time.monotonic() < end:
            time.sleep(0.02)
        self._loop.call_soon_threadsafe(self._app.end_running)
        self.end(self._end_seconds + 2)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to serve, as uvicorn does, when the engine is ready."""
        try:
            await self._engine.start()
        except UserError as error:
            self.problem, self.should_exit = error, True
            return
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends as uvicorn does, and then the engine."""
        await super().shutdown(sockets)
        await self._engine.close()
