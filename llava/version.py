"""Which version this is."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "llava-accm"
_PROJECT_FILE = Path(__file__).parents[1] / "pyproject.toml"


def find_version(project_file: Path = _PROJECT_FILE) -> str:
    """Returns the version: as the project's file says it where that lies beside the package, so
    that it is right without an installation; else that of what is installed."""
    if project_file.is_file():
        text = project_file.read_text("utf-8")
        if f'\nname = "{NAME}"\n' in text:
            return re.search(r'^version = "(.+)"$', text, re.M)[1]
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"
