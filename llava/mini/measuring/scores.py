"""Scores each answer, from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava.eval.benchmarks.registry import data_folder, reader, scorer
from llava.eval.scoring import flickr
from llava.mini.measuring.passes import (
    CANDIDATES,
    FULL,
    NOTHING,
    PRUNED,
    TRUE,
    Measured,
)

ACCM, FIRST, RANDOM, BEST = "accm", "first beam", "random candidate", "best candidate"
# CIDEr of a true caption of two objects against the five references of its scene, about (measured:
# 5.1; the caption of another scene: 1.0). Set before any trained model was measured.
FULL_CIDER = 5.0
# The rows that are compared: the conditions, and the ways to choose one of the candidates.
ROWS = (FULL, NOTHING, PRUNED, ACCM, FIRST, RANDOM, BEST, TRUE)


def score_answers(
    root: Path, benchmark: str, measured: Sequence[Measured], partial: bool
) -> list[dict[str, float]]:
    """Returns the scores of one benchmark's questions in each of their conditions.

    The benchmarks' own scorers say whether an answer is right. A caption of Flickr30k scores its
    CIDEr against five references as a share of FULL_CIDER, at most 1.

    Args:
        root: folder that make_data wrote.
        benchmark: its name.
        measured: its questions.
        partial: whether other questions exist that were not asked.

    Raises:
        UserError: CIDEr needs a program that is not installed.
    """
    folder, module = data_folder(benchmark, None, str(root)), reader(benchmark)
    scores: list[dict[str, float]] = [{} for _ in measured]
    for condition in measured[0].texts:
        records = [
            module.answer_record(one.asked.question, one.texts[condition], "", condition)
            for one in measured
        ]
        if benchmark == "flickr":
            found = flickr.score_questions(folder, records, partial)
            of_questions = {key: min(1.0, cider / FULL_CIDER) for key, cider in found.items()}
        else:
            of_questions = scorer(benchmark).score(folder, records, partial)["questions"]
        for row, one in zip(scores, measured):
            row[condition] = float(of_questions[one.asked.question.key])
    return scores


def choose(scores: dict[str, float], chosen: int) -> dict[str, float]:
    """Returns the scores of one question by ROWS.

    Args:
        scores: by condition, each of CONDITIONS.
        chosen: the selector's choice among the candidates; silence is last.
    """
    candidates = [scores[condition] for condition in CANDIDATES]
    return {
        FULL: scores[FULL],
        NOTHING: scores[NOTHING],
        PRUNED: scores[PRUNED],
        ACCM: [*candidates, scores[PRUNED]][chosen],
        FIRST: candidates[0],
        RANDOM: sum(candidates) / len(candidates),  # the expected score
        BEST: max(candidates),
        TRUE: scores[TRUE],
    }
