"""The journal of the answering engine beside an answers file: FILE.run/answers-*.jsonl.

A report does not need a complete journal: missing or unexpected entries are left out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from llava.errors import UserError
from llava.eval.grids import Grid, whole_grids
from llava.eval.journal import run_folder
from llava.eval.outcomes import answer_text, read_outcomes


@dataclass(frozen=True)
class Entry:
    """One answered question.

    Attributes:
        text: the answer.
        kept: patches whose tokens were kept; None if the journal does not say.
        captions: candidate captions; empty without compensation.
        selector_scores: one per caption, or empty.
        chosen: index of the chosen caption.
        grids: of an image of several views, the grids that show it whole; empty where there is one
            view, or where the journal does not say.
    """

    text: str
    kept: tuple[int, ...] | None
    captions: tuple[str, ...]
    selector_scores: tuple[float, ...]
    chosen: int | None
    grids: tuple[Grid, ...] = ()


def read_entries(answers_file: Path, keys: Collection[str]) -> dict[str, Entry]:
    """Returns the entries of these questions; the last one of several counts.

    Damaged lines are skipped.

    Raises:
        UserError: there is no journal, or it cannot be read.
    """
    folder = run_folder(answers_file)
    try:
        journals = sorted(folder.glob("answers-*.jsonl"))
    except OSError as error:  # an impossible file name
        raise UserError(f"cannot look for journals in {folder} ({error.strerror})") from error
    if not journals:
        raise UserError(f"there is no journal {folder / 'answers-*.jsonl'}")
    entries = {}
    for journal in journals:
        for outcome in read_outcomes(journal):
            if isinstance(outcome, str):
                continue
            text = answer_text(outcome)
            if text is not None and outcome["key"] in keys:
                entries[outcome["key"]] = _entry(text, outcome.get("trace"))
    return entries


def _entry(text: str, trace: object) -> Entry:
    trace = trace if isinstance(trace, dict) else {}
    captions = _values(trace.get("captions"), str) or ()
    scores = _values(trace.get("selector_scores"), (int, float)) or ()
    chosen = trace.get("chosen_index")
    return Entry(
        text=text,
        kept=_values(trace.get("kept_idx"), int),
        captions=captions,
        selector_scores=scores if len(scores) == len(captions) else (),
        chosen=chosen if isinstance(chosen, int) else None,
        grids=_grids(trace.get("views")),
    )


def _grids(recorded: object) -> tuple[Grid, ...]:
    names = ("start", "rows", "columns", "stride")
    views = [[view.get(name) for name in names] for view in _values(recorded, dict) or ()]
    if not views or not all(isinstance(value, int) for view in views for value in view):
        return ()
    known = [(start, rows, columns, stride) for start, rows, columns, stride in views]
    return whole_grids(known) if all(min(view[1:]) > 0 for view in known) else ()


def _values(value: object, kind: type | tuple[type, ...]) -> tuple | None:
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        return None
    return tuple(value)
