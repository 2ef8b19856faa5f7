"""Flickr30k's scores: CIDEr against one caption, as in ACCM's script, and against five."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.eval.benchmarks.flickr import (
    CAPTIONS_PER_IMAGE,
    HOME,
    LAYOUT,
    read_annotations,
    read_questions,
    read_references,
)
from llava.eval.benchmarks.names import say_the_same
from llava.eval.scoring import captions as metrics
from llava.eval.scoring import matching


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    parts = []
    if "CIDEr" in scores:
        parts.append(f"CIDEr {100 * scores['CIDEr']:.2f} with one reference")
    if "five_references" in scores:
        parts.append(f"CIDEr {100 * scores['five_references']['CIDEr']:.2f} with five")
    return "Flickr30k: " + ", ".join(parts) + matching.notes(scores)


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
    matched: matching.Matched
    annotations: list[str] | None
    references: list[list[str]] | None
    unasked: int


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> Data:
    """Reads the captions to compare with, and matches answers to questions; see score_with."""
    questions = read_questions(data_dir)
    annotated = read_annotations(data_dir, questions)
    references = read_references(data_dir)
    if annotated is None and references is None:
        raise UserError(
            f"there are no captions to compare with in {data_dir}: {LAYOUT}; see {HOME}"
        )
    annotations, unasked = annotated or (None, 0)
    texts = annotations or [""] * len(questions)
    kept = matching.keep_asked(zip(questions, texts), asked, lambda pair: pair[0].key)
    questions = [question for question, _ in kept]
    annotations = annotations and [text for _, text in kept]
    ids = {question.key: question.question_id for question in questions}
    find = matching.find_by_id(
        questions, lambda question, prompt: say_the_same(prompt, question.prompt)
    )
    matched = matching.match(ids, matching.need_fields(answers), find, allow_missing)
    fives = None if references is None else references.of(questions)
    return Data(ids, matched, annotations, fives, unasked)


def numbers(data: Data) -> dict:
    """Returns the scores of captions that are matched to questions by ``question_id``.

    ACCM's script compares line k of the answers with line k of the annotations and ignores ids; for
    answers in question order the numbers are the same. A missing answer counts as an empty caption.

    Returns:
        ``CIDEr`` (one reference, with annotations); ``five_references`` (if these exist) with
        ``CIDEr``, ``BLEU-1`` to ``BLEU-4``, ``METEOR`` and ``ROUGE-L``, all as fractions;
        ``missing`` (ids); ``unasked`` (the number of annotations without a question);
        ``questions``, the CIDEr of each, with one reference if there are annotations.

    Raises:
        UserError: there is no pycocoevalcap or no Java.
    """
    java = metrics.java_command()
    captions, annotations, references = _tokenize(java, data)
    scores: dict[str, Any] = {}
    each: list[float] = []
    if annotations is not None:
        scores["CIDEr"], each = metrics.cider(captions, annotations)
    if references is not None:
        cider, each_of_five = metrics.cider(captions, references)
        bleu = metrics.bleu(captions, references)
        scores["five_references"] = {
            "CIDEr": cider,
            **{f"BLEU-{n}": value for n, value in enumerate(bleu, start=1)},
            "METEOR": metrics.meteor(java, captions, references),
            "ROUGE-L": metrics.rouge_l(captions, references),
        }
        each = each or each_of_five
    return {
        **scores,
        "missing": data.matched.missing,
        "unasked": data.unasked,
        "questions": dict(zip(data.ids, each, strict=True)),
    }


score = matching.score_with(match_answers, numbers)


def score_questions(
    data_dir: Path, answers: list[dict], allow_missing: bool = False
) -> dict[str, float]:
    """Returns only ``questions`` of score, which is faster: METEOR's program is slow."""
    data = match_answers(data_dir, answers, allow_missing)
    captions, annotations, references = _tokenize(metrics.java_command(), data)
    _, each = metrics.cider(captions, annotations or references or [])
    return dict(zip(data.ids, each, strict=True))


def _tokenize(
    java: list[str], data: Data
) -> tuple[list[str], list[list[str]] | None, list[list[str]] | None]:
    """Returns the tokenized answers, annotations and references; None where the folder has none."""
    captions = metrics.tokenize(java, [data.matched.texts.get(key, "") for key in data.ids])
    annotations = None
    if data.annotations is not None:
        annotations = [[text] for text in metrics.tokenize(java, data.annotations)]
    if data.references is None:
        return captions, annotations, None
    # One call, in this order: the tokens at the end of a line may depend on the next line.
    fives = metrics.tokenize(java, [text for texts in data.references for text in texts])
    starts = range(0, len(fives), CAPTIONS_PER_IMAGE)
    return captions, annotations, [fives[i : i + CAPTIONS_PER_IMAGE] for i in starts]
