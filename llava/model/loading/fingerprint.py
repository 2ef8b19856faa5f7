"""Telling checkpoints apart without reading 15 GB."""

from __future__ import annotations

import hashlib
from pathlib import Path

from llava.errors import UserError

# Of a larger file, so many blocks are read, evenly spread, its ends included.
BLOCK = 1 << 20
MAX_BLOCKS = 16

_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")


def fingerprint(path: Path) -> str:
    """A hash of a checkpoint file, or of the weights, configuration and tokenizer of a folder.

    Files of up to 16 MiB are hashed whole. Of larger ones the size and 16 MiB evenly spread over
    the file are: every weight that training touches changes with near certainty, a single changed
    number may go unseen.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        return _fingerprint(path)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): check its permissions") from error


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(f for p in _FILES for f in path.glob(p))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as data:
            blocks = min(MAX_BLOCKS, -(-size // BLOCK))
            for i in range(blocks):
                spread = (size - BLOCK) * i // max(1, blocks - 1)
                data.seek(i * BLOCK if size <= BLOCK * MAX_BLOCKS else spread)
                digest.update(data.read(BLOCK))
    return digest.hexdigest()[:16]
