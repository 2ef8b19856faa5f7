"""The server of the page."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from llava.budgets import AskedBudget
from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from llava.model.checks import has_views
from llava.model.llava_arch import LlavaAccm
from llava.model.multimodal_encoder import clip_encoder
from llava.model.sample import Sample
from llava.serve.web.address import Names, listen, shown_address
from llava.serve.web.answering import Answerer
from llava.serve.web.arguments import Patience, WebArguments
from llava.serve.web.gate import Gate
from llava.serve.web.inputs import read_pruner
from llava.serve.web.layout import STYLE, theme
from llava.serve.web.page import Page
from llava.serve.web.threaded import ThreadedServer
from llava.serve.web.uploads import Uploads, page_folder

# Visitors whose last question Gradio remembers: some 100 kB each. Each question of a program counts
# as one; after this number of others, an idle visitor's slider waits for the next question.
VISITORS = 200
_STOPPED = 130  # exit status, as in other commands
# Seed, split and number of a scene (the first is images/scene.png), and a question about it.
_EXAMPLES = (
    ((5, "train", 16), "What color is the star?"),
    ((5, "train", 41), "Where is the green circle?"),
    ((5, "train", 55), "What size is the red star?"),
)


def run(model: LlavaAccm, args: WebArguments) -> int:
    """Serves the page until the process is stopped."""
    try:
        with opened(model, args) as address:
            print(f"{args.model_path} at {address} (Ctrl+C ends it)", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        # The visitors are informed and the files are removed. Python would wait seconds for an
        # answer that nobody reads any more.
        print("stopped by the user", file=sys.stderr, flush=True)
        os._exit(_STOPPED)
    return 0


@contextmanager
def opened(model: LlavaAccm, args: WebArguments, patience: Patience = Patience()) -> Iterator[str]:
    """Serves the page in threads of this process; yields its address.

    Raises:
        UserError: The page cannot be served there, or no question can be answered with these flags.
    """
    method = replace(args.method, pruner=read_pruner(args.pruner) or args.pruner)
    wanted: AskedBudget = clip_encoder.VISUAL_TOKEN_NUM
    if args.visual_token_num is None and isinstance(wanted, int):
        method = replace(method, visual_token_num=min(wanted, model.count_tokens()))
    example, question = _EXAMPLES[0]
    scale = 2 if has_views(model) else 1  # tiles show more of a larger picture
    picture = draw_scene(make_scene(scene_generator(*example), scale))
    kept = model.budget(Sample(picture, question, **vars(method))).visual_token_num
    patches = model.count_tokens(picture)
    answerer = Answerer(model, method, args.max_new_tokens)
    # Errors show before it is served, also those of a pruner that the first image does not need.
    answerer.sample(picture, question, min(kept, patches - 1))
    with listen(args.host, args.port) as listener, page_folder() as folder:
        page = Page(answerer, args, folder, _draw_examples(folder, scale), (kept, patches))
        uploads, names = Uploads(folder, args), Names(args.host, args.public_url or "")
        gate = Gate(_app(page.blocks, args), names, uploads, page.calls, args, patience)
        server = _Server(gate, uploads, patience, has_proxy=bool(args.public_url))
        try:
            server.start(listener)
            yield shown_address(args.host, listener.getsockname()[1])
        finally:
            server.stop()  # first: Gradio does not count an answer without a reader as failed
            answerer.close()


def _draw_examples(folder: Path, scale: int) -> list[tuple[str, str]]:
    """Writes the scenes as PNG to a folder; returns their paths and questions."""
    examples = []
    for number, (scene, question) in enumerate(_EXAMPLES, 1):
        path = folder / f"scene_{number}.png"
        draw_scene(make_scene(scene_generator(*scene), scale)).save(path)
        examples.append((str(path), question))
    return examples


def _app(blocks: gr.Blocks, args: WebArguments) -> FastAPI:
    """Returns the page as an application, without features that visitors do not need."""
    blocks.queue(max_size=args.queue_limit, api_open=False)
    blocks.state_session_capacity = VISITORS
    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="",
        auth=(args.user, args.password) if args.user else None,
        max_file_size=args.max_upload_bytes,
        root_path=args.public_url or "",
        theme=theme(),
        css=STYLE,
        footer_links=[],
        show_error=True,  # an error's message in one line
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )


class _Server(ThreadedServer):
    """The server of the page.

    Args:
        gate: Answers the requests.
        uploads: Remove their old files while the page is served.
        patience: The limits of waiting for browsers.
        has_proxy: Whether a proxy on this machine names the visitor of each request.
    """

    def __init__(self, gate: Gate, uploads: Uploads, patience: Patience, has_proxy: bool) -> None:
        self._gate = gate
        self._uploads = uploads
        super().__init__(
            gate,
            patience,
            "the page cannot be served",
            proxy_headers=has_proxy,
            forwarded_allow_ips=["127.0.0.1", "::1"],
            timeout_graceful_shutdown=patience.end_seconds,
        )

    def stop(self) -> None:
        """Informs the visitors that the page is being stopped, and ends."""
        self._loop.call_soon_threadsafe(self._gate.stop)
        self.end(self._end_seconds + 1.2)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends as uvicorn does, after informing requests that were still arriving."""
        await asyncio.sleep(self._end_seconds / 2)
        await super().shutdown(sockets)

    async def look_around(self) -> None:
        """Does what is due every second."""
        await super().look_around()
        await asyncio.to_thread(self._uploads.forget_old)
