"""JSON lines on disk: errors name the line, and writing loses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from llava.errors import UserError
from llava.files import check_target, dump_json, parse_json, read_bytes


def read_lines(path: Path) -> Iterator[tuple[int, dict | str]]:
    """Yields each line's number with its JSON object, or with what is wrong with the line."""
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield number, f"line {number} of {path} is not UTF-8 text ({error})"
        except ValueError as error:
            yield number, f"line {number} of {path} is not JSON ({error})"
        else:
            if isinstance(value, dict):
                yield number, value
            else:
                kind = type(value).__name__
                yield number, f"line {number} of {path} holds a {kind}, not a JSON object"


def read_objects(path: Path) -> Iterator[tuple[int, dict]]:
    """Yields each line's number with its JSON object.

    Raises:
        UserError: a line holds none.
    """
    for number, value in read_lines(path):
        if isinstance(value, str):
            raise UserError(value)
        yield number, value


class LineWriter(AbstractContextManager):
    """A writer of JSON lines to FILE.partial, each flushed; at the end the file gets its name.

    After an interruption FILE.partial keeps what was written, and an older FILE stays whole.

    Args:
        path: the file.

    Raises:
        UserError: its folder does not exist or cannot be written, or FILE.partial exists.
    """

    def __init__(self, path: Path) -> None:
        check_target(path)
        self._path = path.resolve()  # follows a link, so that the link stays
        self._partial = self._path.with_name(path.name + ".partial")
        if self._partial.is_file() and self._partial.stat().st_size > 0:
            raise UserError(
                f"{self._partial} holds what an interrupted run had written: rename it to keep it, "
                "or delete it, and start again"
            )
        try:
            self._file = self._partial.open("w", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}): write elsewhere") from error

    def write(self, value: dict) -> None:
        """Appends an object as one line.

        Raises:
            UserError: the disk is full or gone.
            ValueError: it has a number that is not finite, or a text that is not Unicode.
        """
        line = dump_json(value) + "\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"cannot write {self._partial} ({error.strerror}); the lines before are in it"
            ) from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._partial, self._path)
        elif self._partial.stat().st_size == 0:
            self._partial.unlink()
