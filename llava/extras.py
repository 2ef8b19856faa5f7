"""The packages that only a part of the project needs, and the commands that install them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from llava.errors import UserError
from llava.version import NAME

_PROJECT = Path(__file__).parents[1]


def missing_package(what: str, package: str | None, extra: str) -> UserError:
    """Returns the error for a package that is not installed.

    Args:
        what: the feature that needs it.
        package: name of the package.
        extra: the extra of pyproject.toml that contains it.
    """
    return UserError(f"{what} needs {package}, which is not installed: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Returns the command that installs an extra into this process's environment."""
    if Path(sys.prefix).resolve() == (_PROJECT / ".venv").resolve():
        return shlex.join(["bash", str(_PROJECT / "scripts" / "setup.sh"), extra])
    is_source = (_PROJECT / "pyproject.toml").is_file()
    words = ["-e", f"{_PROJECT}[{extra}]"] if is_source else [f"{NAME}[{extra}]"]
    return shlex.join([sys.executable, "-m", "pip", "install", *words])
