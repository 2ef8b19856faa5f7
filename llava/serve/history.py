"""Lines typed at the prompt, kept for later chats."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

from llava.files import parse_json

_READ_BACK = 1 << 18  # bytes of the file's end that are read: some thousand lines


def history_path() -> Path | None:
    """Returns where lines are kept: in the folder for a user's state, as the XDG rules name it;
    None where the user has no home."""
    folder = os.environ.get("XDG_STATE_HOME", "")
    try:
        state = Path(folder) if os.path.isabs(folder) else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return state / "accm" / "chat-history"


class LineHistory:
    """A file of lines, each a JSON string; other chats may add to it at the same time.

    A file that cannot be read or written is warned of once, and nothing is kept from then on.

    Args:
        path: of the file, readable by nobody but its user; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._last: str | None = None

    def read(self) -> list[str]:
        """Returns the lines that are kept, the oldest first. What is damaged is left out."""
        if self._path is None:
            return []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(self._open())  # tells whether lines can be kept, before one is typed
            end = _end(self._path) if self._path.is_file() else b""
        except OSError as error:
            self._give_up(error)
            return []
        lines = [line for line in map(_line, end.split(b"\n")) if line is not None]
        self._last = lines[-1] if lines else None
        return lines

    def add(self, line: str) -> None:
        """Keeps a line; one that is empty or the same as the last is not kept."""
        if self._path is None or not line.strip() or line == self._last:
            return
        self._last = line
        try:
            file = self._open()
            try:
                os.write(file, json.dumps(line).encode("ascii") + b"\n")
            finally:
                os.close(file)
        except OSError as error:
            self._give_up(error)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _give_up(self, error: OSError) -> None:
        warnings.warn(
            f"what is typed is not kept for later chats: {self._path} cannot be written "
            f"({error.strerror}); --no-history says so without a warning",
            stacklevel=2,
        )
        self._path = None


def _end(path: Path) -> bytes:
    """Returns the last whole lines of a file."""
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - _READ_BACK)
        file.seek(start)
        return file.read() if start == 0 else file.read().partition(b"\n")[2]


def _line(data: bytes) -> str | None:
    try:
        value = parse_json(data.decode("ascii"))
    except ValueError:
        return None
    return value if isinstance(value, str) else None
