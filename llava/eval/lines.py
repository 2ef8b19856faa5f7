"""JSON lines on disk: read with the line named in every error, written so that nothing is lost."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from llava.errors import UserError


def read_bytes(path: Path) -> bytes:
    """A whole file, without a UTF-8 byte-order mark.

    Raises:
        UserError: no such file, or it cannot be read.
    """
    try:
        return path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check the path") from error
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): check the path") from error


def read_text(path: Path) -> str:
    """A UTF-8 text file, its line ends made newlines.

    Raises:
        UserError: no such file, it cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def read_lines(path: Path) -> Iterator[tuple[int, dict | str]]:
    """The objects of a JSON lines file with their line numbers; for a bad line, what is wrong."""
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
        except UnicodeDecodeError as error:
            yield number, f"line {number} of {path} is not UTF-8 text ({error})"
        except (ValueError, RecursionError) as error:  # numbers of 4,300 digits are ValueErrors too
            yield number, f"line {number} of {path} is not JSON ({error})"
        else:
            if isinstance(value, dict):
                yield number, value
            else:
                kind = type(value).__name__
                yield number, f"line {number} of {path} holds a {kind}, not a JSON object"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def check_target(path: Path) -> None:
    """Refuses a place where no file can be written.

    Raises:
        UserError: its folder does not exist, or something else than a file is there.
    """
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist: create it, or write elsewhere")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file: name one that can be replaced")


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path} ({error.strerror}): write elsewhere"
        ) from error


class LineWriter:
    """Writes JSON lines to FILE.partial, each flushed; the file gets its name when all is done.

    What was written before an interruption stays in FILE.partial, and an older FILE stays whole.

    Args:
        path: the file.

    Raises:
        UserError: its folder does not exist or cannot be written, or FILE.partial is there.
    """

    def __init__(self, path: Path) -> None:
        check_target(path)
        self._path = path.resolve()  # through a link, so that the link stays
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
    check_target(path)
    path = path.resolve()
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): write elsewhere") from error
