"""Warns of other packages called ``llava``, above all LLaVA's own.

Python imports the first one that it finds, which depends on the folder that it is started in.
"""

from __future__ import annotations

import sys
import warnings
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_OURS = Path("model", "token_pruning")  # a package with this folder is a copy of this project


def warn_of_namesakes() -> None:
    """Warns, in one line, where another package of the same name could be imported instead."""
    if (other := find_namesake()) is not None:
        warnings.warn(
            f"another package called llava is in {other}: started in another folder, Python may "
            "import that one instead; uninstall it, or give this project an environment of its own",
            stacklevel=2,
        )


def find_namesake() -> str | None:
    """Returns the path of a package called llava that is not this project's."""
    try:
        other = distribution("llava")  # this project's is called llava-accm
        return f"{other.locate_file('')} (llava {other.version})"
    except PackageNotFoundError:  # none is installed; one may still be on the path
        pass
    for entry in sys.path:
        found = PathFinder.find_spec("llava", [entry])
        if found is not None and found.origin is not None:  # a folder alone is not a package
            if not (Path(found.origin).parent / _OURS).is_dir():
                return entry or "the current folder"
    return None
