"""Answers matched to questions by id; most official scripts match by line instead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from llava.errors import UserError, quoted
from llava.eval.benchmarks.names import as_id, say_the_same, words
from llava.eval.benchmarks.question import Question


class Annotated(Protocol):
    """A label with its question."""

    @property
    def question(self) -> Question:
        """The question that it answers."""


Item = TypeVar("Item")
Data = TypeVar("Data")
Given = ParamSpec("Given")
Annotation = TypeVar("Annotation", bound=Annotated)


class NoLabels(UserError):
    """The data can be answered, and the answers uploaded, but not scored here."""


@dataclass(frozen=True)
class Matched:
    """Answers matched to their questions.

    Attributes:
        texts: the answers by the key of their question; the last one if there are several.
        missing: ids of the questions without an answer.
        unscored: ids of the ignored answers: they belong to no question with a label.
        unasked: the number of labels without a question.
    """

    texts: dict[str, str]
    missing: list[int | str]
    unscored: list[int | str]
    unasked: int = 0


def score_with(
    match_answers: Callable[Given, Data], numbers: Callable[[Data], dict]
) -> Callable[Given, dict]:
    """Returns a benchmark's score function: it matches answers to labels, and computes the numbers.

    All such functions take and raise the same:

    Args of them:
        data_dir: the benchmark's folder, with the labels and perhaps LLaVA's questions.
        answers: records of the answers file; with duplicates the last one counts.
        allow_missing: count questions without an answer as wrong instead of refusing.
        asked: keys of the questions of a limited run; None for all of them.

    Raises:
        UserError: files or records are not right, or answers are missing or to another benchmark.
    """

    def score(*args: Given.args, **kwargs: Given.kwargs) -> dict:
        return numbers(match_answers(*args, **kwargs))

    return score


def keep_asked(
    items: Iterable[Item], asked: Collection[str] | None, key_of: Callable[[Item], str]
) -> list[Item]:
    """Returns those of the items that a run was asked about.

    Args:
        items: labels, questions or rows.
        asked: keys of the questions of a limited run; None for all questions.
        key_of: returns the key of an item's question.

    Raises:
        UserError: the run was asked about none of the items.
    """
    kept = [item for item in items if asked is None or key_of(item) in asked]
    if asked is not None and not kept:
        raise UserError(
            f"none of the {len(asked)} questions that were asked has a label: answer more of "
            "them (--limit)"
        )
    return kept


def choose_scored(
    questions: Sequence[Question], annotations: Sequence[Annotation], asked: Collection[str] | None
) -> tuple[list[Question], list[Annotation], int]:
    """Returns the questions and annotations that a run is scored by.

    Args:
        questions: the questions of the benchmark.
        annotations: labels, each with its ``question``, which need not be one of the above.
        asked: see keep_asked.

    Returns:
        The questions that the run was asked, their annotations, and the number of annotations that
        belong to no question of the benchmark.

    Raises:
        UserError: see keep_asked.
    """
    kept = keep_asked(questions, asked, lambda question: question.key)
    every, keys = ({question.key for question in some} for some in (questions, kept))
    unasked = sum(annotation.question.key not in every for annotation in annotations)
    return kept, [one for one in annotations if one.question.key in keys], unasked


def same_first_line(question: Question, prompt: str) -> bool:
    """Returns whether a record's prompt asks a question, whatever form of answer it requests."""
    return say_the_same(prompt.split("\n", 1)[0], question.tower_question)


def asks_within(question: str, prompt: str) -> bool:
    """Returns whether a record's prompt, a whole conversation, has a question in it."""
    return question in prompt or words(question) in words(prompt)


def find_by_id(
    questions: Sequence[Question], asks: Callable[[Question, str], bool] = same_first_line
) -> Callable[[dict], str | None]:
    """Returns the key of the question that a record answers, or None.

    The id must be equal, its JSON type included, and the question itself too if the record has a
    prompt: two benchmarks can both number their questions from 1.

    Args:
        questions: all questions; one that two editions word differently may be there twice.
        asks: returns whether a record's prompt asks a question.
    """
    known = defaultdict(list)
    for question in questions:
        known[question.question_id].append(question)

    def find(record: dict) -> str | None:
        prompt = record.get("prompt")
        for question in known.get(record["question_id"], ()):
            if prompt is None or asks(question, str(prompt)):
                return question.key
        return None

    return find


def match(
    ids: Mapping[str, int | str],
    answers: Sequence[dict],
    find: Callable[[dict], str | None],
    allow_missing: bool,
    optional: Collection[str] = (),
    ignore_unknown: bool = False,
    advice: str = "is this the answers file of another one?",
    unasked: int = 0,
) -> Matched:
    """Matches answers to questions.

    Args:
        ids: ids of all questions, by their keys.
        answers: the records of an answers file, with question_id and text.
        find: returns the key of the question that a record answers, or None.
        allow_missing: whether questions may have no answer.
        optional: keys of questions that need no answer.
        ignore_unknown: whether some of the answers may be to other questions.
        advice: the end of the message about answers to other questions.
        unasked: the number of labels without a question, for the result.

    Raises:
        UserError: answers are to other questions (or none is to these), or are missing.
    """
    texts, strangers = {}, []
    for record in answers:
        key = find(record)
        if key is None:
            strangers.append(record["question_id"])
        else:
            texts[key] = record["text"]
    retyped = _retyped(strangers, ids.values())
    unknown = [i for i in strangers if i not in retyped]
    if unknown and not (ignore_unknown and texts):
        raise UserError(
            f"{len(unknown)} of {len(answers)} answers are, by id and question, to no question of "
            f"this benchmark (question_id {first(unknown)}): {advice}"
        )
    needed = ids.keys() - set(optional)
    missing = [i for key, i in ids.items() if key in needed and key not in texts]
    if missing and (not allow_missing or not texts):
        raise UserError(
            f"{len(missing)} of {len(needed)} questions have no answer (question_id "
            f"{first(missing)}){_way_out(retyped)}"
            + (", or count them as wrong with --allow-missing" if texts else "")
        )
    return Matched(texts, missing, unknown, unasked)


def need_fields(answers: Sequence[dict], fields: Sequence[str] = ("text",)) -> list[dict]:
    """Returns the records with each question_id as the id that it stands for.

    Raises:
        UserError: a record has no question_id, or no text in one of the fields.
    """
    cleaned = []
    for number, record in enumerate(answers, start=1):
        lacking = [name for name in fields if not isinstance(record.get(name), str)]
        question_id = as_id(record.get("question_id"))
        if question_id is None:
            lacking = ["question_id", *lacking]
        if lacking:
            raise UserError(
                f"line {number} of the answers file has no {', '.join(lacking)}: is this an "
                "answers file of this benchmark?"
            )
        cleaned.append(record | {"question_id": question_id})
    return cleaned


def notes(scores: dict) -> str:
    """Returns the headline's words on labels and answers that were not matched; may be empty."""
    parts = []
    if scores.get("unasked"):
        parts.append(f"; {scores['unasked']:,} labels are of questions that are not asked")
    if scores.get("unscored"):
        parts.append(f"; {len(scores['unscored']):,} answers have no label and do not count")
    return "".join(parts)


def first(ids: Sequence[object]) -> str:
    """Returns the first few ids, for a message."""
    return ", ".join(map(quoted, ids[:5])) + (", ..." if len(ids) > 5 else "")


def _retyped(strangers: Sequence[int | str], ids: Collection[int | str]) -> set[int | str]:
    """Returns the ids that would be known in the other JSON type.

    Official scorers do not find these answers, so they count as missing.
    """
    known = set(ids)
    texts = {str(i) for i in known}
    return {i for i in strangers if i not in known and str(i) in texts}


def _way_out(retyped: Collection[int | str]) -> str:
    if not retyped:
        return ": answer them"
    kinds = ("texts", "numbers") if isinstance(next(iter(retyped)), str) else ("numbers", "texts")
    return f"; {len(retyped)} ids in the answers file are {kinds[0]}: write them as {kinds[1]}"
