"""The version of this package."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "llava-accm"
_PROJECT_FILE = Path(__file__).parents[1] / "pyproject.toml"


def find_version(project_file: Path = _PROJECT_FILE) -> str:
    """Returns the version from the project's file, or else that of the installed package.

    With the file beside the package, the version is right without an installation.
    """
    if project_file.is_file():
        text = project_file.read_text("utf-8")
        found = re.search(r'^version = "(.+)"$', text, re.M)
        if found is not None and f'\nname = "{NAME}"\n' in text:
            return found[1]
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"
