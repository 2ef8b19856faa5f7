"""Warns of other packages called ``llava``, LLaVA's own above all: Python imports the first that it
finds, and which that is depends on the folder that it is started in."""

from __future__ import annotations

import sys
import warnings
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_OURS = Path("model", "token_pruning")  # a package that has this is a copy of this project


def warn_of_namesakes() -> None:
    """Warns, in one line, where another package of the same name could be imported instead."""
    if (other := find_namesake()) is not None:
        warnings.warn(
            f"another package called llava is in {other}: started in another folder, Python may "
            "import that one instead; uninstall it, or give this project an environment of its own",
            stacklevel=2,
        )


def find_namesake() -> str | None:
    """Returns where a package called llava lies that is not this project's."""
    try:
        other = distribution("llava")  # this project's is called llava-accm
        return f"{other.locate_file('')} (llava {other.version})"
    except PackageNotFoundError:  # none is installed; one may lie on the path as it is
        pass
    for entry in sys.path:
        found = PathFinder.find_spec("llava", [entry])
        if found is not None and found.origin is not None:  # a folder alone is no package
            if not (Path(found.origin).parent / _OURS).is_dir():
                return entry or "the current folder"
    return None
