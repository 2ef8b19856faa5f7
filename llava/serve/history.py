"""Lines typed at the prompt, kept for later chats in a file that only the user can read."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import FileHistory


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
