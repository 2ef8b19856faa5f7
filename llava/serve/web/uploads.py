"""Uploaded files, and their folder, the only one of this machine that the page reads."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from llava.errors import UserError
from llava.files import take_lock
from llava.serve.web.arguments import Limits
from llava.serve.web.messages import TooLarge

NOT_UPLOADED = "the image is not one that was uploaded here, or it was long ago: upload it (again)"
# Uploads in progress at once. Each has 1 MiB in memory, and the rest in an unnamed file, which
# disappears with it. The one that has been silent longest makes room for a new one.
AT_ONCE = 32
_PREFIX = "accm-web-"
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"})


@contextmanager
def page_folder() -> Iterator[Path]:
    """Makes a folder for Gradio that nobody else can read, and removes it at the end.

    Gradio would share one folder among all its pages on this machine; only the environment can name
    another one. Remains of a killed page are removed.
    """
    name, before = "GRADIO_TEMP_DIR", os.environ.get("GRADIO_TEMP_DIR")
    base = Path(tempfile.gettempdir())
    _remove_left(base)
    with _own_folder(base) as own:
        folder = own / "files"
        folder.mkdir(mode=0o700)
        os.environ[name] = str(folder)
        try:
            yield folder
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


class Uploads:
    """The files that visitors have uploaded.

    Args:
        folder: Their folder, with other files of the page.
        limits: Limits of each and of all files; the oldest are removed for new ones.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder / "uploads"
        self._folder.mkdir()
        self._limits = limits
        self._heard: dict[asyncio.Task, float] = {}
        self._room = threading.Lock()

    async def take(self, request: Request) -> str:
        """Keeps the one file of a form; no other file can be written.

        Returns:
            Its path; the visitor's name of the file is not used.

        Raises:
            UserError: The form is invalid, does not have exactly one file, or has an empty one.
            TooLarge: The file is too large.
        """
        task: Any = asyncio.current_task()  # in a coroutine there is always one
        if len(self._heard) >= AT_ONCE:
            min(self._heard, key=self._heard.__getitem__).cancel()
        self._heard[task] = time.monotonic()
        try:
            async with request.form(max_files=1, max_fields=1, max_part_size=1024) as form:
                file = form.get("files")
                if not isinstance(file, UploadFile) or not file.size:
                    raise UserError("the form has no file, or an empty one: send one image")
                if file.size > self._limits.max_upload_bytes:
                    most = self._limits.max_upload_bytes
                    raise TooLarge(f"the file has more than {most:,} bytes: save it smaller")
                return str(await asyncio.to_thread(self._keep, file.file, file.size, file.filename))
        except MultiPartException as error:
            raise UserError(f"the form cannot be read ({error.message}): send one image") from error
        finally:
            self._heard.pop(task, None)

    def hear(self) -> None:
        """Records that bytes of the present upload have arrived."""
        if (task := asyncio.current_task()) in self._heard:
            self._heard[task] = time.monotonic()

    def forget_old(self) -> None:
        """Removes the files that are older than the limit."""
        for time_written, _, path in self._files():
            if time.time() - time_written > self._limits.upload_age:
                path.unlink(missing_ok=True)

    def _keep(self, file: BinaryIO, size: int, name: str | None) -> Path:
        suffix = os.path.splitext(name or "")[1].lower()
        path = self._folder / (secrets.token_hex(16) + (suffix if suffix in _SUFFIXES else ""))
        try:
            with self._room, path.open("xb") as kept:
                self._make_room(size)
                shutil.copyfileobj(file, kept)
        except (OSError, ValueError) as error:  # ValueError: the form was closed meanwhile
            path.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"the server cannot keep the file ({reason})") from error
        return path

    def _make_room(self, size: int) -> None:
        files = self._files()
        spare = self._limits.max_all_uploads_bytes - size - sum(taken for _, taken, _ in files)
        for _, taken, path in files:
            if spare >= 0:
                break
            path.unlink(missing_ok=True)
            spare += taken

    def _files(self) -> list[tuple[float, int, Path]]:
        """Returns the time, size in bytes and path of each file, the oldest first."""
        found = []
        for path in self._folder.glob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # removed by another thread
                continue
            found.append((status.st_mtime, status.st_size, path))
        return sorted(found)


def find_upload(path: Any, folder: Path) -> Path | None:
    """Returns the upload that an untrusted path names, links followed; None if there is none."""
    try:
        real = Path(path).resolve(strict=True)
        return real if real.is_file() and real.is_relative_to(folder) else None
    except (OSError, TypeError, ValueError, RuntimeError):  # no path, too long, a loop, a zero byte
        return None


@contextmanager
def _own_folder(base: Path) -> Iterator[Path]:
    """Makes a folder that is locked while this process lives, and removes it at the end."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base)).resolve()
        with (folder / "lock").open("w") as lock:
            # Before it is locked, another page that starts may take the folder for an abandoned
            # one.
            if not take_lock(lock) or not (folder / "lock").exists():
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def _remove_left(base: Path) -> None:
    """Removes the folders of this user's dead pages, whose locks ended with them."""
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, without a lock, or on a file system without locks: it stays
            continue
