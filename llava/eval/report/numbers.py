"""The tables of the page: the means over all benchmarks, then each benchmark by itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.made import EXPLANATION, seconds_text
from llava.eval.report.own import OWN, score_heading
from llava.eval.report.plot import mark
from llava.eval.report.runs import FLOOR, FULL
from llava.eval.report.statistics import Sampled
from llava.eval.report.table import bound, tokens_text

_INTERVAL = "<small>95% interval</small>"


def html_section(comparison: Comparison, styles: dict[str, int]) -> str:
    """Returns all tables, what their columns mean, and the notes.

    Args:
        comparison: the rows.
        styles: of plot.method_styles.
    """
    rows = comparison.mean_rows + comparison.rows
    tables = [
        _table(list(group), styles)
        for _, group in itertools.groupby(rows, key=lambda row: (row.benchmark, row.model))
    ]
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    return f'<h2>All numbers</h2>\n{"".join(tables)}\n<p class="faint after">{EXPLANATION}</p>' + (
        f'\n<ul class="notes">{notes}</ul>' if notes else ""
    )


def _table(rows: Sequence[Row], styles: dict[str, int]) -> str:
    """Returns the table of one benchmark and model, or of the means; each column has one unit."""
    first = rows[0]
    if first.benchmark is None:
        own, share = [], f"Mean of full, %{_INTERVAL}"
    else:
        own = [_capital(OWN[first.benchmark].heading)]
        own.append(f"{score_heading(first.benchmark)}{_INTERVAL}")
        share = f"Of full, %{_INTERVAL}"
    heads = [*own, share, f"Floor to full, %{_INTERVAL}"]
    head = '<th>Method</th><th class="tokens">Tokens</th>'
    head += "".join(f"<th>{name}</th>" for name in heads)
    head += '<th class="time">s a question</th><th class="bars"></th>'
    note = f"{escape(first.model)}, {first.questions:,} questions"
    lines = "".join(_line(row, styles) for row in rows)
    return (
        f"<h3>{escape(first.title)}<span>{note}</span></h3>"
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _line(row: Row, styles: dict[str, int]) -> str:
    level = row.method in (FULL, FLOOR)
    shape = "" if level else mark(6, 6, styles[row.method])
    dot = f'<svg class="dot" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>'
    tokens = tokens_text(row)
    name = f'{dot}{escape(row.marked_method)}<small class="narrow">{tokens} tokens</small>'
    values = []
    if row.benchmark is not None:
        values = [OWN[row.benchmark].text(row.main_value), number(row.mean)]
    values += [number(row.of_full), number(row.recovered)]
    cells = "".join(f"<td>{value}</td>" for value in values)
    bar = "" if level or row.recovered is None else _way(row.recovered, styles[row.method])
    time = seconds_text(row.seconds)
    return (
        f'<tr><td>{name}</td><td class="tokens">{tokens}</td>{cells}<td class="time">{time}</td>'
        f'<td class="bars">{bar}</td></tr>'
    )


def number(sampled: Sampled | None) -> str:
    """Returns a share in per cent, its interval small beside it."""
    if sampled is None:
        return "-<small></small>"
    low, high = sampled.low, sampled.high
    interval = "" if low == high else f"[{bound(low)}, {bound(high)}]"
    return f"{100 * sampled.value:.1f}<small>{interval}</small>"


def _way(recovered: Sampled, style: int) -> str:
    """Floor at the left, full at the right, and between them how far the method came."""

    def x(share: float) -> float:
        return 8 + 88 * min(max(share, -0.08), 1.08)

    value, low, high = (x(share) for share in (recovered.value, recovered.low, recovered.high))
    return (
        '<svg viewBox="0 0 104 16" aria-hidden="true"><path class="way" d="M8 8H96"/>'
        f'<path class="range" d="M{low:.1f} 8H{high:.1f}"/>{mark(value, 8, style)}</svg>'
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
