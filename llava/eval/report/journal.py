"""What the answering engine wrote down beside an answers file: FILE.run/answers-*.jsonl.

A report is no place to insist on a journal: what is not there, or not as expected, is left out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from llava.errors import UserError
from llava.eval.journal import run_folder
from llava.eval.outcomes import answer_text, read_outcomes


@dataclass(frozen=True)
class Entry:
    """One answered question.

    Attributes:
        text: the answer.
        kept: patches whose tokens stayed; None if the journal does not say.
        captions: candidate captions; empty without compensation.
        selector_scores: one a caption, or empty.
        chosen: place of the chosen caption.
    """

    text: str
    kept: tuple[int, ...] | None
    captions: tuple[str, ...]
    selector_scores: tuple[float, ...]
    chosen: int | None


def read_entries(answers_file: Path, keys: Collection[str]) -> dict[str, Entry]:
    """Returns the entries of these questions; of several the last one counts.

    Damaged lines are passed over.

    Raises:
        UserError: there is no journal, or it cannot be read.
    """
    folder = run_folder(answers_file)
    try:
        journals = sorted(folder.glob("answers-*.jsonl"))
    except OSError as error:  # a name that no file system takes
        raise UserError(f"cannot look for journals in {folder} ({error.strerror})") from error
    if not journals:
        raise UserError(f"there is no journal {folder / 'answers-*.jsonl'}")
    entries = {}
    for journal in journals:
        for outcome in read_outcomes(journal):
            text = None if isinstance(outcome, str) else answer_text(outcome)
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
    )


def _values(value: object, kind: type | tuple[type, ...]) -> tuple | None:
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        return None
    return tuple(value)
