"""A web page to ask about images: ``python -m llava.serve.web``."""

from __future__ import annotations

import signal
import socket
import sys
from dataclasses import dataclass
from typing import Optional

from llava.errors import UserError
from llava.eval.command import run_command
from llava.model.builder import ModelArguments, flag, load_from_arguments
from llava.model.sample import DEFAULT_MAX_NEW_TOKENS, DEFAULT_SEED


@dataclass
class WebArguments(ModelArguments):
    """Flags of the command."""

    model_path: str = flag(
        "LLaVA-1.5: a folder, or a name on the Hugging Face hub.", "checkpoints/accm-mini"
    )
    host: str = flag(
        "Address to listen on; 0.0.0.0 lets other machines in, who then need no more than the "
        "page's address: give --user and --password too.",
        "127.0.0.1",
    )
    port: int = flag("Port to listen on.", 7860)
    user: Optional[str] = flag("Name that a visitor has to give, with --password.")
    password: Optional[str] = flag("Password that a visitor has to give, with --user.")
    visual_token_num: Optional[int] = flag(
        "Where the slider begins. Default: VISUAL_TOKEN_NUM in "
        "llava/model/multimodal_encoder/clip_encoder.py."
    )
    queue_limit: int = flag("Questions that may wait; more are turned away with a message.", 32)
    max_upload_bytes: int = flag("Largest image file.", 10 * 1024 * 1024)
    max_pixels: int = flag("Largest image, width times height.", 25_000_000)
    max_question_length: int = flag("Longest question in characters.", 1000)
    max_new_tokens: int = flag("Longest answer in tokens.", DEFAULT_MAX_NEW_TOKENS)
    seed: int = flag("Seed of the one random draw of each question.", DEFAULT_SEED)


def serve(args: WebArguments) -> int:
    """Loads the model and serves the page until it is stopped."""
    check_flags(args)
    try:
        from llava.serve.web.server import run  # Gradio is an extra, and slow to import
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError(
            "the web page needs Gradio, which is not installed: pip install -e '.[web]'"
        ) from error
    check_port(args.host, args.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as after Ctrl+C
    return run(load_from_arguments(args), args)


def check_flags(args: WebArguments) -> None:
    """Refuses settings that go together with nothing.

    Raises:
        UserError: a number is too small, or of user and password there is one alone.
    """
    for name in ("queue_limit", "max_upload_bytes", "max_pixels", "max_question_length"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(args, name)}: at least 1")
    if not 1 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}: a whole number from 1 to {2**16 - 1}")
    if bool(args.user) != bool(args.password):
        raise UserError("--user and --password go together: give both, or none")


def check_port(host: str, port: int) -> None:
    """Refuses an address that cannot be listened on.

    Raises:
        UserError: the port is in use, or the host is none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"cannot listen on port {port} of {host} ({error.strerror or error}): stop what runs "
            "there, or take another --port or --host"
        ) from error


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_command(WebArguments, serve, "llava.serve.web", __doc__.splitlines()[0], argv)


if __name__ == "__main__":
    sys.exit(main())
