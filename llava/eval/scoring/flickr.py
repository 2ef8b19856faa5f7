"""Flickr30k's scores: CIDEr against one caption, as in ACCM's script, and against five."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.eval.benchmarks.five_captions import CAPTIONS_PER_IMAGE
from llava.eval.benchmarks.flickr import (
    HOME,
    LAYOUT,
    read_annotations,
    read_questions,
    read_references,
)
from llava.eval.benchmarks.names import say_the_same
from llava.eval.scoring import captions as metrics
from llava.eval.scoring.matching import Matched, find_by_id, keep_asked, match, need_fields, notes


def score(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> dict:
    """Scores captions, matched to questions by ``question_id``.

    ACCM's script compares line k of the answers with line k of the annotations and ignores ids; for
    answers in question order the numbers are the same.

    Args:
        data_dir: the benchmark's folder, with annotations, five captions per image, or both.
        answers: records with question_id and text; with duplicates the last one counts.
        allow_missing: score questions without an answer as an empty caption instead of refusing.
        asked: keys of the questions of a limited run; None for all of them.

    Returns:
        ``CIDEr`` (one reference, with annotations); ``five_references`` (if these exist) with
        ``CIDEr``, ``BLEU-1`` to ``BLEU-4``, ``METEOR`` and ``ROUGE-L``, all as fractions;
        ``missing`` (ids); ``unasked`` (the number of annotations without a question);
        ``questions``, the CIDEr of each, with one reference if there are annotations.

    Raises:
        UserError: data that are missing or do not fit, answers to another benchmark, missing
            answers, or no pycocoevalcap or Java.
    """
    data = match_answers(data_dir, answers, allow_missing, asked)
    tokens = _tokenize(data)
    scores: dict[str, Any] = {}
    each: list[float] = []
    if tokens.annotations is not None:
        scores["CIDEr"], each = metrics.cider(tokens.captions, tokens.annotations)
    if tokens.references is not None:
        cider, each_of_five = metrics.cider(tokens.captions, tokens.references)
        scores["five_references"] = {"CIDEr": cider, **_other_metrics(tokens, tokens.references)}
        each = each or each_of_five
    questions = dict(zip(data.ids, each, strict=True))
    return {
        **scores,
        "missing": data.matched.missing,
        "unasked": data.unasked,
        "questions": questions,
    }


def score_questions(
    data_dir: Path, answers: list[dict], allow_missing: bool = False
) -> dict[str, float]:
    """Returns only ``questions`` of score, which is faster: METEOR's program is slow."""
    data = match_answers(data_dir, answers, allow_missing)
    tokens = _tokenize(data)
    _, each = metrics.cider(tokens.captions, tokens.annotations or tokens.references or [])
    return dict(zip(data.ids, each, strict=True))


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    parts = []
    if "CIDEr" in scores:
        parts.append(f"CIDEr {100 * scores['CIDEr']:.2f} with one reference")
    if "five_references" in scores:
        parts.append(f"CIDEr {100 * scores['five_references']['CIDEr']:.2f} with five")
    return "Flickr30k: " + ", ".join(parts) + notes(scores)


@dataclass(frozen=True)
class Data:
    """Captions with the answers to compare with them.

    Attributes:
        ids: ids of the questions, by their keys.
        matched: the answers.
        annotations: one caption of each question; None if the folder has none.
        references: five captions of each question; None if the folder has none.
        unasked: the number of annotations without a question.
    """

    ids: dict[str, int | str]
    matched: Matched
    annotations: list[str] | None
    references: list[list[str]] | None
    unasked: int


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> Data:
    """Reads the captions to compare with, and matches answers to questions; see score."""
    questions = read_questions(data_dir)
    annotated = read_annotations(data_dir, questions)
    references = read_references(data_dir)
    if annotated is None and references is None:
        raise UserError(
            f"there are no captions to compare with in {data_dir}: {LAYOUT}; see {HOME}"
        )
    annotations, unasked = annotated or (None, 0)
    texts = annotations or [""] * len(questions)
    kept = keep_asked(zip(questions, texts), asked, lambda pair: pair[0].key)
    questions = [question for question, _ in kept]
    annotations = annotations and [text for _, text in kept]
    ids = {question.key: question.question_id for question in questions}
    find = find_by_id(questions, lambda question, prompt: say_the_same(prompt, question.prompt))
    matched = match(ids, need_fields(answers), find, allow_missing)
    fives = None if references is None else references.of(questions)
    return Data(ids, matched, annotations, fives, unasked)


@dataclass(frozen=True)
class _Tokens:
    """The captions of Data, tokenized.

    Attributes:
        java: the command that starts Java.
        captions: the answer to each question.
        annotations: one reference each; None if the folder has none.
        references: five references each; None if the folder has none.
    """

    java: list[str]
    captions: list[str]
    annotations: list[list[str]] | None
    references: list[list[str]] | None


def _tokenize(data: Data) -> _Tokens:
    java = metrics.java_command()
    captions = metrics.tokenize(java, [data.matched.texts.get(key, "") for key in data.ids])
    annotations: list[list[str]] | None = None if data.annotations is None else []
    if data.annotations:
        annotations = [[t] for t in metrics.tokenize(java, data.annotations)]
    references = data.references and _tokenize_fives(java, data.references)
    return _Tokens(java, captions, annotations, references)


def _tokenize_fives(java: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[str]]:
    # One call, in this order: the tokens at the end of a line may depend on the next line.
    tokenized = metrics.tokenize(java, [text for texts in references for text in texts])
    size = CAPTIONS_PER_IMAGE
    return [tokenized[i : i + size] for i in range(0, len(tokenized), size)]


def _other_metrics(tokens: _Tokens, references: list[list[str]]) -> dict[str, float]:
    """Returns the metrics of five references other than CIDEr."""
    bleu = metrics.bleu(tokens.captions, references)
    return {
        **{f"BLEU-{n}": value for n, value in enumerate(bleu, start=1)},
        "METEOR": metrics.meteor(tokens.java, tokens.captions, references),
        "ROUGE-L": metrics.rouge_l(tokens.captions, references),
    }
