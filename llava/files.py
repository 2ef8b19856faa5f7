"""Files that people give and get: read with a helpful error, written whole or not at all."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from llava.errors import UserError


def read_bytes(path: Path) -> bytes:
    """A whole file, without a UTF-8 byte-order mark.

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
    """A UTF-8 text file, its line ends made newlines.

    Raises:
        UserError: no such file, it cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def read_json(path: Path) -> dict:
    """The object that a JSON file holds.

    Raises:
        UserError: no such file, it cannot be read, or holds no JSON object.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): fetch it again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


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


def write_json(path: Path, value: dict) -> None:
    """Writes one object, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    write_whole(path, lambda file: file.write(text.encode("utf-8")))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: of the file.
        write: is given a file to write into.

    Raises:
        UserError: it cannot be written there.
    """
    check_target(path)
    path = path.resolve()
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}): make room or write elsewhere"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
