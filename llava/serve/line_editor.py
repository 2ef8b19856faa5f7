"""A chat's terminal with line editing, history, completion and colour.

prompt_toolkit's own completer of paths puts no slash behind a folder, and shows hidden files.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image
from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from llava.mm_utils import IMAGE_FORMATS
from llava.serve.commands import COMMANDS, PROMPT
from llava.serve.interrupts import ctrl_c

_STYLE = {
    "prompt": "bold ansigreen",
    "label": "bold ansicyan",
    "answer": "bold",
    "aside": "dim",
    "error": "ansired",
}


class Prompt:
    """A terminal with line editing; see Terminal.

    Args:
        history: lines of earlier chats, to which new ones are added.
        input: source of keys; None takes standard input.
        output: target of drawing; None takes standard output.
    """

    is_typed = True

    def __init__(
        self, history: History, input: Input | None = None, output: Output | None = None
    ) -> None:
        self._output = output or create_output(sys.stdout)
        if isinstance(self._output, Vt100_Output):
            self._output.enable_cpr = False  # not needed here, and missing in some terminals
        is_plain = ColorDepth.from_env() is ColorDepth.DEPTH_1_BIT  # NO_COLOR, as prompt_toolkit
        self._style = Style.from_dict({} if is_plain else _STYLE)
        self._session: PromptSession[str] = PromptSession(
            [("class:prompt", PROMPT)],
            style=self._style,
            history=history,
            enable_history_search=True,
            enable_suspend=True,
            completer=CommandCompleter(),
            complete_style=CompleteStyle.READLINE_LIKE,
            key_bindings=_keys(),
            input=input or create_input(sys.stdin),
            output=self._output,
        )

    def read(self) -> str | None:
        """Returns the next line; see Terminal. Ctrl-C drops the line being typed."""
        with ctrl_c(signal.SIG_IGN):  # it arrives as a key
            while True:
                try:
                    return self._session.prompt(handle_sigint=False)
                except KeyboardInterrupt:
                    self.write("(dropped; Ctrl-D or /quit ends the chat)", "aside")
                except EOFError:
                    return None

    def write(self, text: str, kind: str = "", end: str = "\n") -> None:
        """Shows a text; see Terminal."""
        styled = FormattedText([(f"class:{kind}" if kind else "", text)])
        print_formatted_text(styled, end=end, style=self._style, output=self._output, flush=True)

    def complain(self, text: str) -> None:
        """Shows a line on standard error; see Terminal."""
        styled = FormattedText([("class:error", text)])
        print_formatted_text(styled, style=self._style, file=sys.stderr, flush=True)


def _keys() -> KeyBindings:
    """Returns the key bindings in addition to the usual ones."""
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class CommandCompleter(Completer):
    """A completer of commands, and of pictures and folders after /image."""

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """Yields completions of the text before the cursor."""
        command, blank, rest = document.text_before_cursor.partition(" ")
        if not blank:
            for name, about in COMMANDS.items():
                if command and name.startswith(command):
                    yield Completion(name + " " * bool(about.words), -len(command), display=name)
        elif command == "/image":
            yield from _paths(rest.lstrip())


def _paths(typed: str) -> Iterator[Completion]:
    """Yields completions of a path: pictures and folders, hidden ones only after a dot."""
    folder, start = os.path.split(typed)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            names = sorted(e.name + "/" if e.is_dir() else e.name for e in entries if _is_shown(e))
    except (OSError, ValueError):
        return
    for name in names:
        if name.startswith(start) and name.startswith(".") <= start.startswith("."):
            yield Completion(name, -len(start))


def _is_shown(entry: os.DirEntry) -> bool:
    """Returns whether an entry can be typed and may be a picture or lead to one."""
    suffix = os.path.splitext(entry.name)[1].lower()
    is_picture = Image.registered_extensions().get(suffix) in IMAGE_FORMATS
    return entry.name.isprintable() and (is_picture or entry.is_dir())


def history_path() -> Path:
    """Returns the path of the history, in the user's state folder by the XDG rules.

    For a user without a home it begins with ``~``.
    """
    folder = os.environ.get("XDG_STATE_HOME", "")
    state = folder if os.path.isabs(folder) else os.path.expanduser("~/.local/state")
    return Path(state) / "accm" / "chat-history"


class KeptHistory(FileHistory):
    """prompt_toolkit's file of lines, whose failures do not end a chat.

    If the file cannot be read or written, one warning is given, and no further lines are kept.

    Args:
        path: the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._is_kept = True
        try:  # finds out whether lines can be kept before one is typed
            if not path.is_absolute():
                raise FileNotFoundError(errno.ENOENT, "the user has no home")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            path.open("r+b").close()
        except OSError as error:
            self._give_up(error)

    def load_history_strings(self) -> Iterable[str]:
        """Returns the kept lines, the newest first."""
        try:
            return list(super().load_history_strings()) if self._is_kept else []
        except OSError as error:
            self._give_up(error)
            return []

    def store_string(self, string: str) -> None:
        """Keeps a line; half a character, which UTF-8 cannot encode, becomes a question mark."""
        if not self._is_kept:
            return
        try:
            super().store_string(string.encode("utf-8", "replace").decode("utf-8"))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._is_kept = False
        warnings.warn(
            f"what is typed is not kept for later chats: {os.fsdecode(self.filename)} cannot be "
            f"written ({error.strerror}); --no-history keeps nothing, without this warning",
            stacklevel=2,
        )
