"""Markdown tables for documents and terminals.

They are made here because tabulate and pandas neither escape what would break a table nor keep its
cells as written: they turn texts into numbers and round these again.
"""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int, padded: bool = False
) -> list[str]:
    """Returns the lines of a table whose first columns are texts and the others numbers.

    Args:
        heads: heads of the columns.
        rows: the cells.
        texts: number of columns that are texts.
        padded: whether to align the columns with blanks, for a terminal.
    """
    lines = [[escape(text) for text in line] for line in (heads, *rows)]
    widths = [max(map(len, column)) if padded else 0 for column in zip(*lines)]
    for line in lines:
        line[:] = [
            text.ljust(width) if place < texts else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths))
        ]
    rule = ["-" * max(3, width) for width in widths[:texts]]
    rule += ["-" * max(3, width - 1) + ":" for width in widths[texts:]]
    lines.insert(1, rule)
    return ["| " + " | ".join(line) + " |" for line in lines]


def escape(text: str) -> str:
    """Returns a text escaped so that it neither ends a cell nor starts a tag."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
