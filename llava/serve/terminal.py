"""Input and output of a chat: a terminal with line editing, or a pipe."""

from __future__ import annotations

import io
import os
import sys
from typing import Protocol, TextIO

from llava.errors import UserError
from llava.extras import missing_package
from llava.serve.commands import PROMPT


class Terminal(Protocol):
    """The input and output of a chat.

    Attributes:
        is_typed: whether a person types its lines.
    """

    is_typed: bool

    def read(self) -> str | None:
        """Returns the next line, or several lines pasted together; None at the end."""

    def write(self, text: str, kind: str = "", end: str = "\n") -> None:
        """Shows a text at once, without control characters for the terminal.

        Args:
            text: the text.
            kind: its kind, for its colour: "label", "answer", "aside", or "".
            end: shown after it.
        """

    def complain(self, text: str) -> None:
        """Shows a line on standard error."""


class Plain:
    """Plain lines and texts of a pipe, a file, or a terminal without line editing.

    Ctrl-C drops the line being typed at a terminal, and ends a process that reads a pipe.
    """

    def __init__(self) -> None:
        self.is_typed = is_terminal(sys.stdin)
        if isinstance(sys.stdin, io.TextIOWrapper):
            # Bytes outside the locale's encoding are reported as an error of their line.
            sys.stdin.reconfigure(errors="surrogateescape")

    def read(self) -> str | None:
        """Returns the next line; see Terminal.

        Raises:
            UserError: standard input cannot be read.
            KeyboardInterrupt: Ctrl-C, if no person types.
        """
        if sys.stdin is None:  # closed by the parent process
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
        """Shows a text to a person who types, where they can see it."""
        if self.is_typed:
            screen = sys.stdout if is_terminal(sys.stdout) else sys.stderr
            print(text, end="", file=screen, flush=True)

    def write(self, text: str, kind: str = "", end: str = "\n") -> None:
        """Shows a text; see Terminal."""
        print(text, end=end, flush=True)

    def complain(self, text: str) -> None:
        """Shows a line on standard error; see Terminal."""
        print(text, file=sys.stderr, flush=True)


def open_terminal(history: bool) -> Terminal:
    """Returns a Prompt if lines are typed and shown at a terminal, else Plain.

    Args:
        history: whether to keep the lines for later chats.

    Raises:
        UserError: the package for line editing is not installed.
    """
    can_move = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    if not (can_move and is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        return Plain()
    try:  # imported here: it is slow, and a pipe does not need it
        from prompt_toolkit.history import InMemoryHistory

        from llava.serve.line_editor import KeptHistory, Prompt, history_path
    except ModuleNotFoundError as error:  # an environment from before this package was needed
        raise missing_package("the chat", error.name, "quickstart") from error

    return Prompt(KeptHistory(history_path()) if history else InMemoryHistory())


def is_terminal(stream: TextIO | None) -> bool:
    """Returns whether a standard stream, which may be closed, is a terminal."""
    return stream is not None and stream.isatty()
