"""The folder of uploaded files, the only one of this machine that the page knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NOT_UPLOADED = "the image is not one that was uploaded here, or it was long ago: upload it (again)"


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A folder that nobody else can read, in use by Gradio inside, and gone afterwards.

    Gradio would share one folder with all its pages of this machine; it asks the environment for
    another one, and nothing else.
    """
    name, before = "GRADIO_TEMP_DIR", os.environ.get("GRADIO_TEMP_DIR")
    with TemporaryDirectory(prefix="accm-web-") as folder:
        os.environ[name] = os.path.realpath(folder)
        try:
            yield Path(os.environ[name])
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def find_upload(path: object, folder: Path) -> Path | None:
    """The file that a path from outside names, links followed; None where it is no upload."""
    try:
        real = Path(path).resolve(strict=True)
        return real if real.is_file() and real.is_relative_to(folder) else None
    except (OSError, TypeError, ValueError, RuntimeError):  # none, too long, a loop, a zero byte
        return None
