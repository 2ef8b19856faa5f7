"""The page as a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware

from llava.errors import UserError
from llava.model.llava_arch import LlavaAccm
from llava.model.multimodal_encoder import clip_encoder
from llava.serve.web.answering import Answerer
from llava.serve.web.arguments import WebArguments
from llava.serve.web.examples import draw_examples
from llava.serve.web.gate import Gate
from llava.serve.web.inputs import Limits
from llava.serve.web.page import Page
from llava.serve.web.style import STYLE, theme
from llava.serve.web.uploads import upload_folder

# Visitors of whom Gradio remembers what they were shown: some 100 kB each. A program's every
# question counts as one; who is idle for so many others has a slider that waits for the next
# question.
VISITORS = 200


def run(model: LlavaAccm, args: WebArguments) -> int:
    """Serves the page until the process is stopped."""
    with opened(model, args) as address:
        print(f"{args.model_path} at {address} (Ctrl+C ends it)", flush=True)
        threading.Event().wait()
    return 0


@contextmanager
def opened(model: LlavaAccm, args: WebArguments) -> Iterator[str]:
    """The page, served in threads of this process; gives its address.

    Raises:
        UserError: the page cannot be served there, or no question could be answered like this.
    """
    limits = Limits(args.max_upload_bytes, args.max_pixels, args.max_question_length)
    patches = model.tower.num_patches
    budget = args.visual_token_num
    if budget is None:
        budget = min(clip_encoder.VISUAL_TOKEN_NUM, patches)
    answerer = Answerer(model, args.max_new_tokens, args.seed)
    answerer.sample(Image.new("RGB", (8, 8)), "?", budget)
    with upload_folder() as folder:
        page = Page(answerer, limits, folder, draw_examples(folder), budget)
        try:
            yield _launch(page.blocks, args, folder)
        finally:
            page.blocks.close(verbose=False)
            answerer.close()


def _launch(blocks: gr.Blocks, args: WebArguments, folder: Path) -> str:
    blocks.queue(max_size=args.queue_limit, api_open=False)
    try:
        _, address, _ = blocks.launch(
            server_name=f"[{args.host}]" if ":" in args.host else args.host,
            server_port=args.port,
            auth=(args.user, args.password) if args.user else None,
            max_file_size=args.max_upload_bytes,
            state_session_capacity=VISITORS,
            app_kwargs={
                "middleware": [Middleware(Gate, upload_bytes=args.max_upload_bytes, folder=folder)]
            },
            theme=theme(),
            css=STYLE,
            footer_links=[],
            show_error=True,  # the message of an error, in one line
            quiet=True,
            prevent_thread_lock=True,
            # All that is of use to others than the visitors of this page.
            share=False,
            inbrowser=False,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            root_path="",
        )
    except Exception as error:  # Gradio raises many kinds, Exception itself among them
        raise UserError(
            f"the page cannot be served on port {args.port} of {args.host} ({error}): take another "
            f"--port; where the environment names a proxy, let NO_PROXY name {args.host}"
        ) from error
    return address
