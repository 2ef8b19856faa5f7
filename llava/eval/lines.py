"""JSON lines on disk: read with the line named in every error, written so that nothing is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from llava.errors import UserError


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte-order mark.

    Raises:
        UserError: no such file, or not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: check the path")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def read_lines(path: Path) -> Iterator[tuple[int, dict | str]]:
    """The objects of a JSON lines file with their line numbers; for a bad line, what is wrong."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield number, f"line {number} of {path} is not JSON ({error})"
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            kind = type(value).__name__
            yield number, f"line {number} of {path} holds a {kind}, not a JSON object"


class LineWriter:
    """Writes JSON lines to FILE.partial, each flushed; the file gets its name when all is done.

    What was written before an interruption stays in FILE.partial, and an older FILE stays whole.

    Args:
        path: the file.

    Raises:
        UserError: its folder does not exist or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise UserError(f"the folder {path.parent} does not exist: create it, or write elsewhere")
        if path.is_dir():
            raise UserError(f"{path} is a folder: name a file in it")
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        try:
            self._file = self._partial.open("w", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}): write elsewhere") from error

    def write(self, value: dict) -> None:
        """Appends an object as one line.

        Raises:
            UserError: the disk is full or gone.
        """
        try:
            self._file.write(json.dumps(value) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"cannot write {self._partial} ({error.strerror}); the lines before are in it"
            ) from error

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._partial, self._path)
        elif self._partial.stat().st_size == 0:
            self._partial.unlink()


def write_json(path: Path, value: dict) -> None:
    """Writes one object, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): write elsewhere") from error
