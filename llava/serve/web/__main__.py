"""A web page to ask about images: ``python -m llava.serve.web``."""

from __future__ import annotations

import signal
import socket
import sys

from llava.errors import UserError
from llava.eval.command import run_command
from llava.model.builder import load_from_arguments
from llava.serve.web.arguments import WebArguments


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
