"""The published numbers as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from llava.eval.report.published import TITLE, Line, Table, about
from llava.eval.report.runs import BENCHMARKS
from llava.markdown import escape, markdown_table


def markdown_section(tables: Sequence[Table]) -> str:
    """Returns the section of report.md; empty if there are no tables."""
    if not tables:
        return ""
    lines = ["", f"## {TITLE}", "", f"{about()} In brackets: the number of this report."]
    for table in tables:
        heads = ["Method", "Source", *(BENCHMARKS[name] for name in table.benchmarks)]
        cells = [_cells(line, table.benchmarks) for line in table.lines]
        lines += [
            "",
            f"### {table.title}",
            "",
            f"{table.about} In brackets: {escape(table.model)}.",
        ]
        lines += ["", *markdown_table(heads, cells, texts=2)]
    return "\n".join(lines) + "\n"


def _cells(line: Line, benchmarks: Sequence[str]) -> list[str]:
    numbers = []
    for name in benchmarks:
        value, here = line.published.get(name), line.measured.get(name)
        text = "-" if value is None else f"{value:g}" if name == "mme" else f"{value:.1f}"
        numbers.append(text if here is None else f"{text} ({here:.1f})")
    return [line.name, f"{line.source}; {line.note}" if line.note else line.source, *numbers]
