"""Where a chat's lines come from and its texts go: a terminal with line editing, or a pipe."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from llava.errors import UserError
from llava.extras import missing_package

PROMPT = "USER: "


class Terminal(Protocol):
    """What a chat talks to.

    Attributes:
        is_typed: whether a person types its lines.
    """

    is_typed: bool

    def read(self) -> str | None:
        """Returns the next line, which may hold several lines that were pasted together; None at
        the end."""

    def write(self, text: str, kind: str = "", end: str = "\n") -> None:
        """Shows a text at once, without what would be a command to the terminal.

        Args:
            text: what is shown.
            kind: what it is, for its colour: "label", "answer", "aside", or "".
            end: is shown behind it.
        """

    def complain(self, text: str) -> None:
        """Shows a line on standard error."""


class Plain:
    """Lines and texts as they are: of a pipe, a file, or a terminal that can do no more.

    Ctrl-C drops what is being typed at a terminal, and ends the process that reads a pipe.
    """

    def __init__(self) -> None:
        self.is_typed = is_terminal(sys.stdin)
        if isinstance(sys.stdin, io.TextIOWrapper):
            # What is not in the locale's encoding is told of as a mistake of its line.
            sys.stdin.reconfigure(errors="surrogateescape")

    def read(self) -> str | None:
        """See Terminal.

        Raises:
            UserError: standard input cannot be read.
            KeyboardInterrupt: Ctrl-C, where no person types.
        """
        if sys.stdin is None:  # closed by who started the process
            return None
        while True:
            try:
                self._say(PROMPT)
                line = sys.stdin.readline()
            except KeyboardInterrupt:
                if not self.is_typed:
                    raise
                self._say("\n")
                continue
            except OSError as error:
                raise UserError(
                    f"standard input cannot be read ({error.strerror}): start the chat anew"
                ) from error
            if not line:
                self._say("\n")
            return line or None

    def _say(self, text: str) -> None:
        """Shows a text to a person who types, where they see it."""
        if self.is_typed:
            screen = sys.stdout if is_terminal(sys.stdout) else sys.stderr
            print(text, end="", file=screen, flush=True)

    def write(self, text: str, kind: str = "", end: str = "\n") -> None:
        """See Terminal."""
        print(text, end=end, flush=True)

    def complain(self, text: str) -> None:
        """See Terminal."""
        print(text, file=sys.stderr, flush=True)


def open_terminal(history: bool) -> Terminal:
    """Returns line editing where lines are typed at a terminal and shown on one, else Plain.

    Args:
        history: whether the lines are kept for later chats.

    Raises:
        UserError: what edits lines is not installed.
    """
    can_move = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    if not (can_move and is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        return Plain()
    try:  # here, since it takes its time and a pipe needs none of it
        from prompt_toolkit.history import InMemoryHistory

        from llava.serve.history import KeptHistory, history_path
        from llava.serve.prompt import Prompt
    except ModuleNotFoundError as error:  # an environment from before it was needed
        raise missing_package("the chat", error.name, "quickstart") from error

    return Prompt(KeptHistory(history_path()) if history else InMemoryHistory())


def is_terminal(stream: TextIO | None) -> bool:
    """Tells whether a standard stream, which may have been closed, is a terminal."""
    return stream is not None and stream.isatty()


@contextmanager
def ctrl_c(handler: Callable[[int, object], object] | signal.Handlers) -> Iterator[None]:
    """Lets something else happen at Ctrl-C meanwhile than KeyboardInterrupt at any place. Where the
    process does not hear it in the usual way (nohup, a thread), that stays so."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt_once(number: int, frame: object) -> None:
    """Raises KeyboardInterrupt, and ignores an impatient second Ctrl-C: it would disturb the end of
    what the first one stopped."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
