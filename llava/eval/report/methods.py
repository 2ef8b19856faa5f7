"""The methods in words, and the result in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable

from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.runs import ACCM, FLOOR, FULL, PRUNE, budget_key, budget_text

TITLES = {
    FULL: "all tokens",
    ACCM: "pruned, with captions",
    PRUNE: "pruned",
    FLOOR: "no image",
}
_EXPLAINED = {
    FULL: "all visual tokens: the plain model, the 100% of the rest.",
    ACCM: "pruned, with captions: the tokens of the budget stay, and what was dropped comes back "
    "as a caption before the question. The paper's method.",
    PRUNE: "pruned: the same tokens stay, and no caption is written.",
    FLOOR: "the question without the image: how far guessing goes, the floor.",
}


def title(method: str) -> str:
    """Returns a method's title in a few words; its name if it is not known."""
    return TITLES.get(method, method)


NAMED = (
    "These are pruners by their names, with what is given back for the dropped tokens if anything "
    "is; docs/methods.md describes each. Other names: the settings of their runs say what they do."
)


def explained(methods: Iterable[str]) -> list[tuple[str, str]]:
    """Returns the methods that the report knows, each with a line of explanation."""
    return [(name, _EXPLAINED[name]) for name in dict.fromkeys(methods) if name in _EXPLAINED]


def named(methods: Iterable[str]) -> list[str]:
    """Returns the other methods: pruners by their names, and names of one's own."""
    return [name for name in dict.fromkeys(methods) if name not in _EXPLAINED]


def result_rows(comparison: Comparison) -> tuple[Row | None, Row | None]:
    """Returns the rows for the sentence: pruning alone, and pruning with captions.

    They have the smallest budget with captions (else with pruning), over all benchmarks if there
    are several; None if there is no such run, or none with all tokens.
    """
    rows = comparison.mean_rows or comparison.rows
    rows = [row for row in rows if row.of_full is not None and row.tokens]
    for method in (ACCM, PRUNE):
        of_method = [row for row in rows if row.method == method]
        if of_method:
            first = min(of_method, key=lambda row: row.tokens or 0)
            break
    else:
        return None, None
    same = [row for row in rows if (row.model, row.benchmark) == (first.model, first.benchmark)]
    same = [row for row in same if budget_key(row) == budget_key(first)]
    by_method = {row.method: row for row in same}
    return by_method.get(PRUNE), by_method.get(ACCM)


def result_sentence(comparison: Comparison) -> str:
    """Returns the result in a sentence without its full stop; empty if there is no comparison.

    Scores that are not of all answers are marked.
    """
    prune, accm = result_rows(comparison)
    row = accm if prune is None else prune
    if row is None:
        return ""
    of_all = f" of {row.num_patches}" if row.num_patches else ""
    where = "With" if row.benchmark is None else f"On {row.title}, with"
    captions = " and captions" if prune is None else ""
    sentence = (
        f"{where} {budget_text(row)}{of_all} tokens{captions} the model reaches {_share(row)} of "
        "its score with all tokens"
    )
    if prune is not None and accm is not None:
        sentence += f"; with captions {_share(accm)}"
    return sentence + row.marked_method.removeprefix(row.method)


def _share(row: Row) -> str:
    share = math.nan if row.of_full is None else row.of_full.value
    return f"{100 * share:.0f}%"
