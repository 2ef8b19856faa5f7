"""Reading files with a helpful error, and writing them whole or not at all."""

from __future__ import annotations

import codecs
import errno
import fcntl
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from llava.errors import UserError

# Errors of file systems without flock: Lustre mounted without it, NFS without a lock daemon, some
# FUSE file systems.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


def is_there(path: Path) -> bool:
    """Tells whether a path exists; returns False also for a path that no system allows."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a loop of links; a NUL character
        return False


def read_bytes(path: Path) -> bytes:
    """Reads a whole file, without a UTF-8 byte-order mark.

    Raises:
        UserError: no such file, or it cannot be read.
    """
    try:
        return path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check the path, or download it there") from error
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): check the path") from error


def read_text(path: Path) -> str:
    """Reads a UTF-8 text file, with newlines as line ends.

    Raises:
        UserError: no such file, or it cannot be read or is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def read_json(path: Path, advice: str = "fetch it again") -> dict:
    """Returns the object that a JSON file holds.

    Args:
        path: the file.
        advice: the way out if the file is damaged.

    Raises:
        UserError: no such file, or it cannot be read or holds no JSON object.
    """
    try:
        value = parse_json(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): {advice}") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise UserError(f"{path} holds a {kind}, not a JSON object: {advice}")
    return value


def parse_json(text: str) -> object:
    """Returns the value of a JSON text whose numbers are finite and whose strings are Unicode.

    Python's own reader also accepts NaN, Infinity, 1e999 and lone surrogates, which cannot be
    compared, counted or written afterwards.

    Raises:
        ValueError: the text is not such JSON.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            parse_int=_finite_int,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _refuse_surrogates(value, text)
    return value


def dump_json(value: object, indent: int | None = None) -> str:
    """Returns the JSON text of a value, which parse_json reads as the same value.

    Raises:
        ValueError: a number is not finite, a text not Unicode, or the value nested too deeply.
    """
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _refuse_surrogates(value, text)
    return text


def _refuse_surrogates(value: object, text: str) -> None:
    if not re.search(r"\\u[dD][89a-fA-F]", text):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("a text in it is not Unicode: half of a surrogate pair") from error


def printable(text: object) -> str:
    """Returns a text with ASCII escapes for parts that are not Unicode, as in odd file names."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits} is too large")
    return number


def _finite_int(digits: str) -> int:
    """Refuses numbers beyond a float's range; tokenizers do state lengths of 10**30."""
    if len(digits) > 300:
        _finite_float(digits)
    return int(digits)


def take_lock(file: IO) -> bool:
    """Locks an open file for this process until the file is closed, however the process ends.

    On a file system without locks, it continues without one after a warning.

    Returns:
        False if another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"the file system does not know locks ({error.strerror}): make sure that no other run "
            "writes to the same files",
            stacklevel=2,
        )
    return True


def check_target(path: Path) -> None:
    """Refuses a path at which no file can be written.

    Raises:
        UserError: its folder does not exist, or it is not a regular file.
    """
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist: create it, or write elsewhere")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file: name one that can be replaced")


def make_folder(path: Path, way_out: str = "") -> None:
    """Makes a folder, and those above it; one that is there is left alone.

    Args:
        path: the folder.
        way_out: the end of the message.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path} ({error.strerror}){way_out}") from error


def write_json(path: Path, value: dict) -> None:
    """Writes one object, whole or not at all.

    Raises:
        UserError: it cannot be written there, or a number in it is not finite.
    """
    try:
        text = dump_json(value, indent=2)
    except ValueError as error:
        raise UserError(f"cannot write {path} ({error}): what went into it is damaged") from error
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    write_whole(path, lambda file: file.write(printable(text).encode("utf-8")))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: the file.
        write: writes to the open file that it receives.

    Raises:
        UserError: it cannot be written there.
    """
    check_target(path)
    path = path.resolve()
    with system_errors(f"write {path}", "make room or write elsewhere"):
        with replacing(path) as partial, partial.open("wb") as file:
            write(file)


@contextmanager
def system_errors(doing: str, way_out: str) -> Iterator[None]:
    """Turns an error of the system into one line: cannot DOING (why): WAY OUT."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot {doing} ({error.strerror}): {way_out}") from error


@contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yields the path to write a file at, which takes its name at the end, or is removed.

    Args:
        path: the file.
        partial: the path to write at, on the same disk; None takes FILE.partial.
    """
    partial = path.with_name(path.name + ".partial") if partial is None else partial
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
