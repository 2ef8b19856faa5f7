"""Tables as people have them: columns are found by name, whoever wrote the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llava.errors import UserError, quoted
from llava.eval.benchmarks.names import as_number
from llava.files import read_text

_DELIMITERS = ("\t", ",", ";")  # what pandas and spreadsheets write


def read_table(
    path: Path,
    columns: Sequence[str],
    more: Sequence[str] = (),
    spellings: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the rows, each with its place for messages, by the names of these columns.

    Columns may come in any order and among others, which are left out, like rows of empty cells.

    Args:
        path: the table, separated by tabs, commas or semicolons.
        columns: those that must be there.
        more: those that are read where they are there.
        spellings: other names, in small letters, of columns.

    Raises:
        UserError: no such file, not UTF-8, a column that is not there or is there twice, or a row
            of another length than the header.
    """
    text = read_text(path)
    # A cell of base64 is longer than the module's default limit. The limit belongs to the process,
    # so it is set to one fixed value, here, where it is needed.
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
    """Returns the whole number in a cell; raises UserError where it holds none."""
    number = as_number(cell)
    if number is None:
        raise UserError(f"{where}: the {column} {quoted(cell)} is not a whole number: mend it")
    return number


def _header(lines: Iterator[list[str]]) -> list[str]:
    try:
        return next(lines, [])
    except csv.Error:  # quoted in another way than with this delimiter
        return []


def _rows(
    lines: Iterator[list[str]], header: Sequence[str | None], path: Path
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
