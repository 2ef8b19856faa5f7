"""Flickr30k's scores: CIDEr against one caption, as in the method's script, and against five."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llava.errors import UserError
from llava.eval.benchmarks.flickr import (
    CAPTIONS_PER_IMAGE,
    HOME,
    LAYOUT,
    read_annotations,
    read_questions,
    read_references,
)
from llava.eval.benchmarks.question import Question
from llava.eval.scoring import captions as metrics
from llava.eval.scoring.matching import find_by_id, first, match, need_fields


def score(data_dir: Path, answers: list[dict], allow_missing: bool = False) -> dict:
    """Scores captions, matched to questions by ``question_id``.

    The method's script compares line k of the answers with line k of the annotations and never
    looks at an id; for answers in question order the numbers are the same.

    Args:
        data_dir: the benchmark's folder, with annotations, five captions per image, or both.
        answers: records with question_id and text; with duplicates the last one counts.
        allow_missing: score questions without an answer as an empty caption instead of refusing.

    Returns:
        ``CIDEr`` (one reference, with annotations); ``five_references`` (where these are there)
        with ``CIDEr``, ``BLEU-1`` to ``BLEU-4``, ``METEOR`` and ``ROUGE-L``, all as fractions;
        ``missing`` (ids); ``questions``, the CIDEr of each, with one reference if there are
        annotations.

    Raises:
        UserError: data that are not there or do not fit, answers to another benchmark, missing
            answers, or no pycocoevalcap or Java.
    """
    data = _read(data_dir, answers, allow_missing)
    scores = {}
    each = None
    if data.annotations is not None:
        scores["CIDEr"], each = metrics.cider(data.captions, data.annotations)
    if data.references is not None:
        cider, each_of_five = metrics.cider(data.captions, data.references)
        scores["five_references"] = {"CIDEr": cider, **_other_metrics(data)}
        each = each or each_of_five
    return {**scores, "missing": data.missing, "questions": dict(zip(data.keys, each, strict=True))}


def score_questions(
    data_dir: Path, answers: list[dict], allow_missing: bool = False
) -> dict[str, float]:
    """``questions`` of score alone, many times as fast: METEOR's program is slow."""
    data = _read(data_dir, answers, allow_missing)
    _, each = metrics.cider(data.captions, data.annotations or data.references)
    return dict(zip(data.keys, each, strict=True))


def headline(scores: dict) -> str:
    """The scores in one line."""
    parts = []
    if "CIDEr" in scores:
        parts.append(f"CIDEr {100 * scores['CIDEr']:.2f} with one reference")
    if "five_references" in scores:
        parts.append(f"CIDEr {100 * scores['five_references']['CIDEr']:.2f} with five")
    return "Flickr30k: " + ", ".join(parts)


@dataclass(frozen=True)
class _Data:
    """Captions and what they are compared with, all tokenized.

    Attributes:
        keys: of the questions.
        missing: ids of the questions without a caption.
        java: the command that starts it.
        captions: of each question.
        annotations: one reference each; None where the folder has none.
        references: five references each; None where the folder has none.
    """

    keys: list[str]
    missing: list[int | str]
    java: list[str]
    captions: list[str]
    annotations: list[list[str]] | None
    references: list[list[str]] | None


def _read(data_dir: Path, answers: list[dict], allow_missing: bool) -> _Data:
    questions = read_questions(data_dir)
    annotations = read_annotations(data_dir, questions)
    references = _references_of(questions, read_references(data_dir))
    if annotations is None and references is None:
        raise UserError(
            f"there are no captions to compare with in {data_dir}: {LAYOUT}; see {HOME}"
        )
    need_fields(answers)
    ids = {question.key: question.question_id for question in questions}
    find = find_by_id(questions, lambda question, prompt: prompt == question.prompt)
    matched = match(ids, answers, find, allow_missing)
    java = metrics.java_command()
    captions = metrics.tokenize(java, [matched.texts.get(key, "") for key in ids])
    if annotations is not None:
        annotations = [[text] for text in metrics.tokenize(java, annotations)]
    if references is not None:
        references = _tokenize_fives(java, references)
    return _Data(list(ids), matched.missing, java, captions, annotations, references)


def _tokenize_fives(java: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[str]]:
    # In one go and in this order: how a line ends may depend on how the next begins.
    tokenized = metrics.tokenize(java, [text for texts in references for text in texts])
    size = CAPTIONS_PER_IMAGE
    return [tokenized[i : i + size] for i in range(0, len(tokenized), size)]


def _other_metrics(data: _Data) -> dict[str, float]:
    """What five references are compared by beside CIDEr."""
    bleu = metrics.bleu(data.captions, data.references)
    return {
        **{f"BLEU-{n}": value for n, value in enumerate(bleu, start=1)},
        "METEOR": metrics.meteor(data.java, data.captions, data.references),
        "ROUGE-L": metrics.rouge_l(data.captions, data.references),
    }


def _references_of(
    questions: Sequence[Question], references: dict[str, list[str]]
) -> list[list[str]] | None:
    if not references:
        return None
    lacking = [q.image.name for q in questions if q.image.name not in references]
    if lacking:
        raise UserError(
            f"{len(lacking)} of {len(questions)} images are not among those with five captions "
            f"({first(lacking)}): take the file of five captions away to score by one"
        )
    return [references[question.image.name] for question in questions]
