"""The page: one self-contained HTML file that needs no script and fetches nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape
from pathlib import Path

from llava.eval.report import made, numbers, references
from llava.eval.report.case import case_card
from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.disagreements import GAP, Disagreement
from llava.eval.report.methods import explained, result_rows, result_sentence, title
from llava.eval.report.plot import (
    LARGE,
    NARROW,
    SMALL,
    accuracy_chart,
    can_be_drawn,
    mark,
    method_styles,
)
from llava.eval.report.references import Compared
from llava.eval.report.runs import BENCHMARKS, FLOOR, FULL, UNBOUNDED, Run
from llava.eval.report.statistics import Sampled
from llava.eval.report.style import STYLE
from llava.eval.report.table import bound


def render_page(
    comparison: Comparison,
    disagreements: Sequence[Disagreement],
    left_out: Sequence[str],
    runs: Sequence[Run],
    compared: Sequence[Compared],
    folder: Path,
) -> str:
    """The whole page.

    Args:
        comparison: the rows.
        disagreements: of find_disagreements.
        left_out: notes on what the disagreements lack.
        runs: the result files.
        compared: numbers of others, to be shown beside these.
        folder: where the page goes, to which links are relative.
    """
    styles = method_styles(comparison.rows)
    body = [
        _header(comparison, runs),
        _charts(comparison, styles),
        numbers.html_section(comparison, styles),
        references.html_section(compared),
        made.html_section(runs, folder),
        _disagreements(disagreements, left_out),
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
    dates = sorted(word for run in runs for word in run.made.date.split(" to ") if word)
    when = f", answered {' to '.join(dict.fromkeys((dates[0], dates[-1])))}" if dates else ""
    about = f"{escape(models)} on {benchmarks}{escape(when)}"
    head = f'<h1>Evaluation report</h1>\n<p class="faint">{about}</p>'
    return f"{head}\n{_lead(comparison, runs)}"


def _lead(comparison: Comparison, runs: Sequence[Run]) -> str:
    """The result in a sentence, with its intervals; and what the numbers are means of."""
    sentence = result_sentence(comparison)
    if not sentence:
        return ""
    rows = [row for row in result_rows(comparison) if row is not None]
    count = len({run.benchmark for run in runs})
    where = f"Mean over {count} benchmarks" if rows[0].benchmark is None else f"On {rows[0].title}"
    sure = ", ".join(f"{title(row.method)} {_with_interval(row.of_full)}" for row in rows)
    way = ", ".join(_with_interval(row.recovered) for row in rows if row.recovered is not None)
    way = f"; of the way up from no image: {way}" if way else ""
    return (
        f'<p class="lead">{escape(sentence)}.</p>\n<p class="faint">{where}, with 95% intervals: '
        f"{escape(sure)}{way}.</p>"
    )


def _with_interval(sampled: Sampled) -> str:
    return f"{100 * sampled.value:.1f}% [{bound(sampled.low)}, {bound(sampled.high)}]"


def _methods(comparison: Comparison, styles: dict[str, int]) -> str:
    """What each method is, with its mark in the charts."""
    lines = []
    for name, text in explained([row.method for row in comparison.rows]):
        if name == FULL or name == FLOOR:
            kind = "full" if name == FULL else "floor"
            sign = f'<g class="{kind}"><path d="M0 6H24"/></g>'
        else:
            sign = mark(12, 6, styles[name])
        svg = f'<svg class="sign" viewBox="0 0 24 12" aria-hidden="true">{sign}</svg>'
        lines.append(f"<li>{svg}<span><b>{escape(name)}</b> {escape(text)}</span></li>")
    return f'<ul class="methods">{"".join(lines)}</ul>'


def _charts(comparison: Comparison, styles: dict[str, int]) -> str:
    """For each model one large chart, of the means if there are any, and a small one for each
    benchmark."""
    models = list(dict.fromkeys(row.model for row in comparison.rows))
    parts = []
    for model in models:
        rows = [row for row in comparison.rows if row.model == model and row.tokens is not None]
        means = [row for row in comparison.mean_rows if row.model == model]
        if not rows:
            continue
        if len(models) > 1:
            parts.append(f"<h3>{escape(model)}</h3>")
        parts.append(_model_charts(rows, means, styles))
    if not parts:
        return _methods(comparison, styles)
    return "\n".join(
        [
            "<h2>Accuracy against visual tokens</h2>",
            _methods(comparison, styles),
            *parts,
            '<p class="faint after">Bars and bands are 95% bootstrap intervals. Scales need not '
            "begin at zero.</p>",
        ]
    )


def _model_charts(rows: Sequence[Row], means: Sequence[Row], styles: dict[str, int]) -> str:
    panels = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row.benchmark)]
    if len(panels) == 1:
        return _large_chart(panels[0][0].title, panels[0], styles)
    parts = []
    if means and can_be_drawn(means):
        parts.append(_large_chart(f"Mean of {len(panels)} benchmarks", means, styles))
    charts = [accuracy_chart(panel[0].title, panel, styles, SMALL) for panel in panels]
    return "\n".join([*parts, f'<div class="panels">{"".join(charts)}</div>'])


def _large_chart(name: str, rows: Sequence[Row], styles: dict[str, int]) -> str:
    """The same chart twice: for a wide window, and for a phone, where letters must not shrink."""
    wide, narrow = (accuracy_chart(name, rows, styles, frame) for frame in (LARGE, NARROW))
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


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
