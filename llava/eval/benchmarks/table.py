"""Tables of any origin: columns are found by name, whichever program wrote the file.

pandas would guess types, and take texts such as NA for empty cells.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llava.errors import UserError, quoted
from llava.eval.benchmarks.names import as_number
from llava.files import read_text

if TYPE_CHECKING:
    from _csv import Reader  # the csv module does not export the type of its readers

_DELIMITERS = ("\t", ",", ";")  # written by pandas and spreadsheets


def read_table(
    path: Path,
    columns: Sequence[str],
    more: Sequence[str] = (),
    spellings: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the cells of each row by column, with the row's place for messages.

    Columns may have any order. Other columns and empty rows are left out.

    Args:
        path: the table, separated by tabs, commas or semicolons.
        columns: the required columns.
        more: columns that are read if they exist.
        spellings: other names of columns, in lower case.

    Raises:
        UserError: no such file, not UTF-8, a column is missing or there twice, or a row and the
            header have different lengths.
    """
    text = read_text(path)
    # A cell of base64 is longer than the module's default limit. The limit belongs to the process,
    # so it is set here to one fixed value.
    csv.field_size_limit(2**31 - 1)
    names = {name.casefold(): name for name in (*columns, *more)} | dict(spellings or {})
    lacking = list(columns)
    for delimiter in _DELIMITERS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = [names.get(name.strip().casefold()) for name in _header(lines)]
        lacking = min(lacking, [name for name in columns if name not in header], key=len)
        if not lacking:
            yield from _rows(lines, header, path)
            return
    raise UserError(f"{path} lacks the column {', '.join(lacking)}: mend it, or get it again")


def need_number(cell: str, column: str, where: str) -> int:
    """Returns the whole number in a cell; raises UserError if it holds none."""
    number = as_number(cell)
    if number is None:
        raise UserError(f"{where}: the {column} {quoted(cell)} is not a whole number: mend it")
    return number


def _header(lines: Iterator[list[str]]) -> list[str]:
    try:
        return next(lines, [])
    except csv.Error:  # quoted for another delimiter
        return []


def _rows(
    lines: Reader, header: Sequence[str | None], path: Path
) -> Iterator[tuple[str, dict[str, str]]]:
    twice = [name for name in header if name is not None and header.count(name) > 1]
    if twice:
        raise UserError(f"{path} has the column {twice[0]} twice: take one of the two out")
    try:
        for cells in lines:
            where = f"{path}, row ending on line {lines.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{where}: it has {len(cells)} cells, the header has {len(header)}: mend it, "
                    "or get the file again"
                )
            yield where, {name: cell for name, cell in zip(header, cells) if name is not None}
    except csv.Error as error:
        raise UserError(
            f"{path}, line {lines.line_num}: {error}: mend the line, or get the file again"
        ) from error
