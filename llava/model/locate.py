"""Where the parts of the method lie: on this machine, or on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download

from llava.errors import UserError

_HUB_FOLDER = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.pt)")
_SMALL_FILES = ("*.json", "*.txt", "*.model")
# Weights in the order of preference; a repository may hold both.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def locate(name: str, weights: bool = True) -> Path:
    """A file or folder by its path, or by its name on the hub, which may fetch it.

    Args:
        name: a path, "owner/repository", or "owner/repository/file.pt".
        weights: whether a repository's weights are wanted, or only its small files.

    Raises:
        UserError: neither here nor to be had.
    """
    path = Path(name)
    try:
        if path.exists():
            return path
        if _HUB_FOLDER.fullmatch(name):
            return _fetch_folder(name, weights)
        if in_repository := _HUB_FILE.fullmatch(name):
            return Path(hf_hub_download(in_repository[1], in_repository[2]))
    except Exception as error:  # every failure of the hub, or of the way there, ends here
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name} is not a path on this machine, and could not be fetched from the hub: {reason}"
        ) from error
    raise UserError(f"there is no {name}: check the path, or download it there")


def _fetch_folder(repository: str, weights: bool) -> Path:
    folder = Path(snapshot_download(repository, allow_patterns=list(_SMALL_FILES)))
    for pattern in _WEIGHTS if weights else ():
        folder = Path(snapshot_download(repository, allow_patterns=[*_SMALL_FILES, pattern]))
        if any(folder.glob(pattern)):
            break
    return folder


def find_beside(name: str, model_path: Path, root: Path) -> Path | None:
    """A part by its usual name: in the model's folder, beside it, or under the checkpoints root."""
    for folder in (model_path, model_path.parent, root):
        if (folder / name).exists():
            return folder / name
    return None
