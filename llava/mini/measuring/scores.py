"""Scores each answer, from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from llava.eval.benchmarks.registry import data_folder, reader, scorer
from llava.eval.scoring import flickr
from llava.method import Method
from llava.mini.measuring.arguments import MeasuringArguments
from llava.mini.measuring.passes import (
    CANDIDATES,
    CONDITIONS,
    FULL,
    NOTHING,
    PRUNED,
    TRUE,
    Measured,
    ask_all,
)
from llava.mini.measuring.questions import Asked
from llava.model.llava_arch import LlavaAccm

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


def ask_and_score(
    model: LlavaAccm,
    args: MeasuringArguments,
    asked: Sequence[Asked],
    method: Method,
    conditions: Sequence[str] = CONDITIONS,
) -> list[tuple[Measured, dict[str, float]]]:
    """Returns the questions of one benchmark with their answers and scores by condition.

    Args:
        model, asked, method, conditions: see ask_all.
        args: the folder of the benchmarks, the batch size, and whether all questions are asked.

    Raises:
        UserError: see ask_all and score_answers.
    """
    name = asked[0].benchmark
    answers = ask_all(model, asked, method, args.batch_size, conditions)
    about = f"{name}, {method.visual_token_num} tokens"
    measured = list(tqdm(answers, about, len(asked), unit="question", smoothing=0))
    scores = score_answers(Path(args.data_root), name, measured, args.limit is not None)
    return list(zip(measured, scores))


def choose(scores: dict[str, float], chosen: int) -> dict[str, float]:
    """Returns the scores of one question, those of the candidates by the ways to choose one.

    Args:
        scores: by condition.
        chosen: the selector's choice among the candidates; silence is last.
    """
    candidates = [scores[condition] for condition in CANDIDATES]
    ways = {
        ACCM: [*candidates, scores[PRUNED]][chosen],
        FIRST: candidates[0],
        RANDOM: sum(candidates) / len(candidates),  # the expected score
        BEST: max(candidates),
    }
    return {name: score for name, score in scores.items() if name not in CANDIDATES} | ways
