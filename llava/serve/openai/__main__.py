"""A server with OpenAI's interface: ``python -m llava.serve.openai``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from llava.extras import missing_package
from llava.serve.openai.arguments import ServeArguments, check_flags, read_key
from llava.utils.cli import command
from llava.utils.stopping import Stopped


def serve(args: ServeArguments) -> int:
    """Loads the model and serves it until it is stopped."""
    check_flags(args)
    key = read_key(args, os.environ)
    try:
        from llava.serve.openai.server import listen, run  # uvicorn is an extra
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette", "httpx", "h11"):
            raise
        raise missing_package("the server", error.name, "serve") from error
    listen(args.host, args.port).close()  # before the model is loaded
    return run(args, key)


_main = command(ServeArguments, serve, "llava.serve.openai", __doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; SIGTERM and SIGHUP let it end its answers, however long it waits for them.

    Args:
        argv: the command line; None takes the process's.
    """
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _stop)
    try:
        return _main(argv)
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


if __name__ == "__main__":
    sys.exit(main())
