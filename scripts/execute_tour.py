"""Executes docs/tour.ipynb and writes its outputs: ``.venv/bin/python scripts/execute_tour.py``."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOUR = Path(__file__).resolve().parents[1] / "docs" / "tour.ipynb"
_SECONDS = 300  # limit of a cell


def main(target: Path = TOUR) -> None:
    """Executes the notebook in the folder of a file, and writes it with its outputs.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(TOUR, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=_SECONDS,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(target.parent)}},
    )
    client.execute()
    notebook.metadata.language_info = {"name": "python"}  # without this machine's Python version
    nbformat.write(notebook, target)


if __name__ == "__main__":
    main()
