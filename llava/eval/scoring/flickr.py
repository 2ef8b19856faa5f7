"""Flickr30k's scores: CIDEr against one caption, as in the method's script, and against five."""

from __future__ import annotations

from collections.abc import Sequence
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
    scores = {}
    each = None
    if annotations is not None:
        tokenized = metrics.tokenize(java, annotations)
        scores["CIDEr"], each = metrics.cider(captions, [[text] for text in tokenized])
    if references is not None:
        scores["five_references"], each_of_five = _five_references(java, captions, references)
        each = each or each_of_five
    keys = [question.key for question in questions]
    return {**scores, "missing": matched.missing, "questions": dict(zip(keys, each, strict=True))}


def headline(scores: dict) -> str:
    """The scores in one line."""
    parts = []
    if "CIDEr" in scores:
        parts.append(f"CIDEr {100 * scores['CIDEr']:.2f} with one reference")
    if "five_references" in scores:
        parts.append(f"CIDEr {100 * scores['five_references']['CIDEr']:.2f} with five")
    return "Flickr30k: " + ", ".join(parts)


def _five_references(
    java: Sequence[str], captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, float], list[float]]:
    # In one go and in this order: how a line ends may depend on how the next begins.
    tokenized = metrics.tokenize(java, [text for texts in references for text in texts])
    size = CAPTIONS_PER_IMAGE
    references = [tokenized[i : i + size] for i in range(0, len(tokenized), size)]
    cider, each = metrics.cider(captions, references)
    bleu = metrics.bleu(captions, references)
    scores = {
        "CIDEr": cider,
        **{f"BLEU-{n}": value for n, value in enumerate(bleu, start=1)},
        "METEOR": metrics.meteor(java, captions, references),
        "ROUGE-L": metrics.rouge_l(captions, references),
    }
    return scores, each


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
