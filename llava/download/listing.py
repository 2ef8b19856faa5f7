"""What a hub says about the files of a repository: looked at before it is believed."""

from __future__ import annotations

import re

from llava.download.errors import reason
from llava.errors import UserError, quoted
from llava.files import parse_json

_MOST_BYTES = 2**60  # of a file; sums of such sizes still are numbers of gigabytes


def read_listing(content: bytes, name: str) -> tuple[str, dict[str, dict[str, object]]]:
    """Reads the JSON with which a hub answers about a repository.

    Args:
        content: the JSON.
        name: of the repository, for messages.

    Returns:
        The commit, and by the paths of the files what is known of them, as Remote has it.

    Raises:
        UserError: it is not what a hub says.
    """
    try:
        about = _field({"answer": parse_json(content.decode("utf-8"))}, "answer", dict)
        files: dict[str, dict[str, object]] = {}
        for sibling in _field(about, "siblings", list):
            path = _field({"sibling": sibling}, "sibling", dict).get("rfilename")
            if not isinstance(path, str):
                raise ValueError("a file has no name")
            known = _known(sibling)
            if files.setdefault(path, known) != known:
                raise ValueError(f"it has two files {quoted(path)}")
        return _hex(about, "sha", 40), files
    except ValueError as error:
        raise UserError(
            f"what answered about {name} is no hub ({reason(error)}): check HF_ENDPOINT and the "
            "network"
        ) from error


def _known(sibling: dict) -> dict[str, object]:
    size = sibling.get("size")
    if size is not None and not (type(size) is int and 0 <= size <= _MOST_BYTES):
        raise ValueError(f"the size of a file is {_said(size)}")
    if sibling.get("lfs") is not None:
        return {"size": size, "sha256": _hex(_field(sibling, "lfs", dict), "sha256", 64)}
    if sibling.get("blobId") is not None:
        return {"size": size, "git_sha1": _hex(sibling, "blobId", 40)}
    return {"size": size}


def _field(holder: dict, key: str, kind: type):
    value = holder.get(key)
    if not isinstance(value, kind):
        raise ValueError(f"its {key} is {_said(value)}")
    return value


def _said(value: object) -> str:
    is_short = isinstance(value, (str, int, float))
    return quoted(str(value)) if is_short else f"a {type(value).__name__}"


def _hex(holder: dict, key: str, digits: int) -> str:
    text = _field(holder, key, str)
    if not re.fullmatch(f"[0-9a-f]{{{digits}}}", text):
        raise ValueError(f"its {key} is {quoted(text)}")
    return text
