"""The page: one self-contained HTML file that needs no script and fetches nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

from llava.eval.report.case import case_card
from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.disagreements import GAP, Disagreement
from llava.eval.report.plot import LARGE, SMALL, accuracy_chart, mark, method_styles
from llava.eval.report.references import Compared, html_section
from llava.eval.report.runs import ACCM, BENCHMARKS, FLOOR, FULL, UNBOUNDED, Run
from llava.eval.report.statistics import Sampled
from llava.eval.report.style import STYLE
from llava.eval.report.table import EXPLANATION, bound, main_number

_INTERVAL = "<small>95% interval</small>"
_COLUMNS = (
    "Method",
    "Tokens",
    "Main",
    "of full, %",
    f"Mean, %{_INTERVAL}",
    f"of full, %{_INTERVAL}",
    f"Floor to full, %{_INTERVAL}",
    "",
)


def render_page(
    comparison: Comparison,
    disagreements: Sequence[Disagreement],
    left_out: Sequence[str],
    runs: Sequence[Run],
    references: Sequence[Compared] = (),
) -> str:
    """The whole page.

    Args:
        comparison: the rows.
        disagreements: of find_disagreements.
        left_out: notes on what the disagreements lack.
        runs: the result files.
        references: numbers of others, to be shown beside these.
    """
    styles = method_styles(comparison.rows)
    body = [
        _header(comparison, runs),
        _charts(comparison, styles),
        _table(comparison, styles),
        html_section(references),
        _disagreements(disagreements, left_out),
        _files(runs),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evaluation report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _header(comparison: Comparison, runs: Sequence[Run]) -> str:
    models = ", ".join(dict.fromkeys(run.model for run in runs))
    benchmarks = ", ".join(
        BENCHMARKS[name] for name in dict.fromkeys(run.benchmark for run in runs)
    )
    head = f'<h1>Evaluation report</h1>\n<p class="faint">{escape(models)} on {benchmarks}</p>'
    return f"{head}\n{_lead(comparison)}"


def _lead(comparison: Comparison) -> str:
    """The result in a sentence: ACCM at its smallest budget, over as much as there is."""
    rows = [row for row in comparison.mean_rows or comparison.rows if row.method == ACCM]
    rows = [row for row in rows if row.of_full is not None]
    if not rows:
        return ""
    row = min(rows, key=lambda row: row.tokens)
    of_all = f" of {row.num_patches}" if row.num_patches else ""
    where = f"Averaged over {len({r.benchmark for r in comparison.rows})} benchmarks"
    if row.benchmark is not None:
        where = f"On {row.title}"
    way = ""
    if row.recovered is not None:
        way = f" and covers <b>{_with_interval(row.recovered)}</b> of the way up from no image"
    return (
        f'<p class="lead">{where}, {escape(row.model)} with {row.method} and {row.tokens}{of_all} '
        f"visual tokens keeps <b>{_with_interval(row.of_full)}</b> of the full-token score{way}."
        "</p>"
    )


def _with_interval(sampled: Sampled) -> str:
    return f"{100 * sampled.value:.1f}% [{bound(sampled.low)}, {bound(sampled.high)}]"


def _charts(comparison: Comparison, styles: dict[str, int]) -> str:
    """For each model one large chart of the means, and a small one for each benchmark."""
    parts = ["<h2>Accuracy against visual tokens</h2>"]
    models = list(dict.fromkeys(row.model for row in comparison.rows))
    drawn = 0
    for model in models:
        rows = [row for row in comparison.rows if row.model == model and row.tokens is not None]
        means = [row for row in comparison.mean_rows if row.model == model]
        panels = [
            list(group) for _, group in itertools.groupby(rows, key=lambda row: row.benchmark)
        ]
        if not panels:
            continue
        drawn += 1
        if len(models) > 1:
            parts.append(f"<h3>{escape(model)}</h3>")
        if len(panels) == 1:
            parts.append(accuracy_chart(panels[0][0].title, panels[0], styles, LARGE))
            continue
        if means:
            title = f"Mean of {len({row.benchmark for row in comparison.rows})} benchmarks"
            parts.append(accuracy_chart(title, means, styles, LARGE))
        charts = [accuracy_chart(panel[0].title, panel, styles, SMALL) for panel in panels]
        parts.append(f'<div class="panels">{"".join(charts)}</div>')
    if not drawn:
        return ""
    parts.append(
        '<p class="faint after">Bars and bands are 95% bootstrap intervals. Dashed: '
        "all visual tokens. Dotted: no image. Scales need not begin at zero.</p>"
    )
    return "\n".join(parts)


def _table(comparison: Comparison, styles: dict[str, int]) -> str:
    heads = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = comparison.mean_rows + comparison.rows
    bodies = []
    for (_, model), group in itertools.groupby(rows, key=lambda row: (row.benchmark, row.model)):
        members = list(group)
        first = members[0]
        main = f", main number {escape(first.main_name)}" if first.main_name else ""
        note = f"{escape(model)}, {first.questions:,} questions{main}"
        title = f'<tr><th colspan="8">{first.title}<span>{note}</span></th></tr>'
        lines = "".join(_table_line(row, styles) for row in members)
        bodies.append(f"<tbody>{title}{lines}</tbody>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    return (
        f'<h2>All numbers</h2>\n<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f'{"".join(bodies)}</table></div>\n<p class="faint after">{EXPLANATION}</p>'
        + (f'\n<ul class="notes">{notes}</ul>' if notes else "")
    )


def _table_line(row: Row, styles: dict[str, int]) -> str:
    level = row.method in (FULL, FLOOR)
    shape = "" if level else mark(6, 6, styles[row.method])
    dot = f'<svg class="dot" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>'
    share = "-" if row.of_full_main is None else f"{100 * row.of_full_main:.1f}"
    values = [
        dot + escape(row.marked_method),
        "-" if row.tokens is None else str(row.tokens),
        "-" if row.main_value is None else main_number(row.main_value),
        share,
        _number(row.mean),
        _number(row.of_full),
        _number(row.recovered),
    ]
    bar = "" if level or row.recovered is None else _way(row.recovered, styles[row.method])
    cells = "".join(f"<td>{value}</td>" for value in values)
    return f'<tr>{cells}<td class="bars">{bar}</td></tr>'


def _number(sampled: Sampled | None) -> str:
    """A share in per cent, its interval small beside it."""
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


def _disagreements(found: Sequence[Disagreement], left_out: Sequence[str]) -> str:
    parts = ["<h2>Where runs disagree</h2>"]
    if not found:
        parts.append('<p class="faint">No benchmark has two runs to compare.</p>')
    parts += [f'<p class="faint">{escape(note)}</p>' for note in left_out]
    for name, group in itertools.groupby(found, key=lambda pair: pair.first.benchmark):
        pairs = list(group)
        shown = sum(len(pair.cases) for pair in pairs)
        count = f"{len(pairs)} pair{'s' * (len(pairs) > 1)} of runs, {shown} questions shown"
        inside = "".join(_pair(pair, is_open=pair is pairs[0]) for pair in pairs)
        parts.append(
            f"<details><summary>{BENCHMARKS[name]}<span>{count}</span></summary>{inside}</details>"
        )
    return "\n".join(parts)


def _pair(pair: Disagreement, is_open: bool) -> str:
    first, second = escape(pair.first.label), escape(pair.second.label)
    model = f", {escape(pair.first.model)}"
    if pair.first.model != pair.second.model:
        first = f"{escape(pair.first.model)}, {first}"
        second = f"{escape(pair.second.model)}, {second}"
        model = ""
    total = len(pair.first.scores)
    agreed = total - pair.better_first - pair.better_second
    text = (
        f"Only {first} right: {pair.better_first:,}. Only {second} right: {pair.better_second:,}. "
        f"Alike: {agreed:,} of {total:,}."
    )
    if pair.first.benchmark in UNBOUNDED:
        text = (
            f"Higher by {GAP:g} or more: {first} {pair.better_first:,} times, {second} "
            f"{pair.better_second:,} times, of {total:,}. The widest gaps come first."
        )
    cards = "".join(case_card(case) for case in pair.cases)
    return (
        f'<details class="pair"{" open" * is_open}><summary>{first} against {second}'
        f"<span>{pair.better_first:,} to {pair.better_second:,}{model}</span></summary>"
        f'<p class="faint">{text}</p>{cards}</details>'
    )


def _files(runs: Sequence[Run]) -> str:
    names = "".join(f"<li>{escape(str(run.path))}</li>" for run in runs)
    return f'<h2>Result files</h2>\n<ul class="notes">{names}</ul>'
