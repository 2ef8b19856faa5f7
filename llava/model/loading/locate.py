"""Finds the parts of ACCM on this machine or on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download

from llava.arguments import PROJECT as PROJECT  # the old import path
from llava.errors import UserError, shown
from llava.files import is_there

# "owner/repository", or "owner/repository/file.pt".
_HUB_NAME = re.compile(r"((?:[a-z0-9][\w.-]*)/(?:[a-z0-9][\w.-]*))(?:/([\w.-]+\.pt))?", re.A | re.I)
_FILE_ENDINGS = (".pt", ".pth", ".bin", ".safetensors", ".gguf", ".json")
_SMALL_FILES = ("*.json", "*.txt", "*.model")
# Weights in the order of preference; a repository may hold both.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def is_hub_name(name: str) -> bool:
    """Tells whether a string can only be a name on the hub.

    This is decided only here. A path is never sent to the hub, where anyone could have registered
    its first folder as a name: neither what exists, nor what begins with a folder that exists or
    with ``checkpoints/``, nor what has the form of a path: a leading or trailing slash, ``.``,
    ``..``, ``~`` or a backslash, more than one slash (except in ``owner/repository/file.pt``), a
    file's ending on a repository.
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None or is_there(Path(name)):
        return False
    owner = name.split("/")[0]
    is_file = match[1].lower().endswith(_FILE_ENDINGS)
    return not is_file and owner.lower() != "checkpoints" and not is_there(Path(owner))


def locate(name: str, weights: bool = True) -> Path:
    """Returns a file or folder by its path, or by its name on the hub, fetching it if needed.

    Args:
        name: a path, or a name on the hub; see is_hub_name.
        weights: whether a repository's weights are wanted, or only its small files.

    Raises:
        UserError: it is not on this machine and cannot be fetched.
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None or not is_hub_name(name):
        return _here(name)
    repository, file = match.groups()
    try:
        return Path(hf_hub_download(repository, file)) if file else _fetch(repository, weights)
    except Exception as error:  # every failure of the hub, or of the connection, ends here
        reason = shown(str(error).strip().split("\n")[0])
        raise UserError(
            f"{name} is not a path on this machine, and could not be fetched from the hub: {reason}"
        ) from error


def _here(name: str) -> Path:
    """Returns a path on this machine; ``~`` is the user's home.

    Raises:
        UserError: it does not exist.
    """
    path = Path(name)
    try:
        path = path.expanduser()
    except RuntimeError:  # no such user
        pass
    if name and is_there(path):
        return path
    where = "" if path.is_absolute() else " in the current folder"
    raise UserError(f"there is no {shown(name)}{where}: check the path, or download it there")


def _fetch(repository: str, weights: bool) -> Path:
    folder = Path(snapshot_download(repository, allow_patterns=list(_SMALL_FILES)))
    for pattern in _WEIGHTS if weights else ():
        folder = Path(snapshot_download(repository, allow_patterns=[*_SMALL_FILES, pattern]))
        if any(folder.glob(pattern)):
            break
    return folder


def find_beside(name: str, model_path: Path, root: Path) -> Path | None:
    """Finds a part by its usual name: in the model's folder, next to it, or under the root."""
    for folder in (model_path, model_path.parent, root):
        if is_there(folder / name):
            return folder / name
    return None
