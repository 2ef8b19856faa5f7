"""The first questions of a benchmark, for a run that is limited to some (--limit)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava.errors import UserError, quoted
from llava.eval.benchmarks.question import Question
from llava.eval.benchmarks.registry import reader

LIMIT_HELP = (
    "Ask only the first so many questions of a benchmark, and those that are scored together with "
    "one of them. Default: all."
)


def first_questions(benchmark: str, questions: Sequence[Question], limit: int) -> list[Question]:
    """Returns the first questions, and the questions that are scored together with them.

    A pair of MMVP, the two questions of an image of MME and the rotations of a question of MMBench
    are never separated: a part would be scored by another rule than the whole.

    Args:
        benchmark: name of the benchmark.
        questions: all questions, in the order of their file.
        limit: how many to take before groups are completed.

    Raises:
        UserError: the limit is below 1.
    """
    if limit < 1:
        raise UserError(
            f"--limit is {limit}: give a number of questions from 1 on, or leave it out"
        )
    group_of = getattr(reader(benchmark), "scored_together", lambda question: question.key)
    begun = {group_of(question) for question in questions[:limit]}
    return [question for question in questions if group_of(question) in begun]


def limit_of(settings: dict | None, where: Path) -> int | None:
    """Returns the limit in a run's settings; None if all questions were asked, as by older runs.

    Args:
        settings: settings from run_settings; None if they are not known.
        where: the place of the settings, for the message.

    Raises:
        UserError: the limit in them is not a number of at least 1.
    """
    limit = (settings or {}).get("limit")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(
            f"the settings of {where} have the limit {quoted(limit)}, which is no number of "
            "questions: answer them again"
        )
    return limit
