"""Fingerprints of checkpoints, without reading 15 GB."""

from __future__ import annotations

import hashlib
from pathlib import Path

from llava.errors import UserError

# Of a larger file, MAX_BLOCKS blocks of BLOCK bytes are read, evenly spread, both ends included.
BLOCK = 1 << 20
MAX_BLOCKS = 16

_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")


def fingerprint(path: Path) -> str:
    """Hashes a checkpoint file, or the weights, configuration and tokenizer of a folder.

    Files of up to 16 MiB are hashed whole; of larger ones, the size and 16 MiB evenly spread over
    the file. This finds every weight that training changes with near certainty, but may miss a
    single changed number.

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
