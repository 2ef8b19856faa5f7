"""The page of a check: one table for each part."""

from __future__ import annotations

from llava.eval.bench.table import markdown
from llava.markdown import markdown_table

_GB = 1e9


def page(report: dict) -> str:
    """Returns the page in Markdown for the parts that were run."""
    lines = ["# Check of a GPU", ""]
    for name, found in report.items():
        machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
        lines += [f"## {name}", "", f"{machine}; {found['part_seconds']:.0f} s", ""]
        if "error" in found:
            lines += ["failed:", "", "```", found["error"].strip(), "```", ""]
        elif "cases" in found:
            lines += [markdown(found["cases"]), ""]
        elif "rows" in found:
            lines += [*_rows(found["rows"]), ""]
        elif "tables" in found:
            for title, table in found["tables"].items():
                lines += [f"### {title}", "", "```", table, "```", ""]
        else:
            lines += [*found.get("summary", ()), ""]
    return "\n".join(lines)


def _rows(rows: dict[str, dict]) -> list[str]:
    """Returns a table with a line for each name."""
    heads = list(next(iter(rows.values())))
    cells = [[name, *(_cell(key, row[key]) for key in heads)] for name, row in rows.items()]
    return markdown_table(["", *heads], cells, texts=1)


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value / _GB:.2f} GB" if key.endswith("bytes") else f"{value:.4g}"
