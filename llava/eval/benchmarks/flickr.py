"""Flickr30k: a caption for each image, compared with people's captions.

Layout of a data folder: ``flickr30k-images/<name>.jpg``, ``questions*.jsonl`` (LLaVA's question
file), ``annotations*.jsonl`` (one caption per image) and, for scores over five captions per image,
``dataset_flickr30k.json`` (Karpathy's splits) or ``results*.token``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from llava.errors import UserError
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.question import Question
from llava.eval.lines import read_lines
from llava.files import read_text

HOME = "https://shannon.cs.illinois.edu/DenotationGraph"
LAYOUT = (
    "Flickr30k's folder holds flickr30k-images/<name>.jpg with questions.jsonl and "
    "annotations.jsonl, and dataset_flickr30k.json or results_20130124.token for five captions "
    "per image"
)
# lmms-eval's wording; that of the method is not published.
PROMPT = "Provide a one-sentence caption for the provided image."
MAX_NEW_TOKENS = 128
CAPTIONS_PER_IMAGE = 5

answer_record = llava_files.answer_record


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """All questions: those of LLaVA's file, or one for each image that has captions.

    Args:
        data_dir: the benchmark's folder.
        question_file: LLaVA's file; by default the ``questions*.jsonl`` of the folder. Without one,
            the images of the annotations are asked about, or else those of the five captions
            (Karpathy's test split, or all of the .token file), in the order of that file.

    Raises:
        UserError: no file to read questions from, or a line that is not a question.
    """
    path = question_file or _the_one(data_dir, "questions*.jsonl")
    if path is not None:
        records = _records(path, question_id=(int, str), image=str, text=str)
    elif (path := _the_one(data_dir, "annotations*.jsonl")) is not None:
        records = _records(path, image=str)
        records = [
            {"question_id": i} | record | {"text": PROMPT} for i, record in enumerate(records)
        ]
    elif references := read_references(data_dir):
        records = [
            {"question_id": i, "image": image, "text": PROMPT} for i, image in enumerate(references)
        ]
    else:
        raise UserError(f"there are no questions in {data_dir}: {LAYOUT}; get it from {HOME}")
    questions = [_question(record, data_dir) for record in records]
    if len({question.key for question in questions}) < len(questions) or not questions:
        raise UserError(f"{path or data_dir} has no question, or two with the same question_id")
    return questions


def read_annotations(data_dir: Path, questions: Sequence[Question]) -> list[str] | None:
    """The one caption of each question, or None where the folder has no annotations.

    Annotations with a question_id belong to that question; without, line k belongs to question k.

    Raises:
        UserError: a line that is not an annotation, or annotations of other questions.
    """
    path = _the_one(data_dir, "annotations*.jsonl")
    if path is None:
        return None
    records = _records(path, text=str)
    if not all("question_id" in record for record in records):
        if len(records) != len(questions):
            raise UserError(
                f"{path} has {len(records)} captions without question_id, for {len(questions)} "
                "questions: give it one line per question, or question_ids"
            )
        return [record["text"] for record in records]
    captions = {str(record["question_id"]): record["text"] for record in records}
    keys = {question.key for question in questions}
    astray = sorted(keys ^ captions.keys())
    if astray or len(captions) < len(records):
        raise UserError(
            f"{path} does not hold one annotation for each question: {len(records)} annotations, "
            f"{len(keys)} questions, question_id {', '.join(astray[:5]) or 'twice'} only in one of "
            "both; mend it, or leave out the question_ids to match by line"
        )
    return [captions[question.key] for question in questions]


def read_references(data_dir: Path) -> dict[str, list[str]]:
    """The five captions of each image, by its file name; empty where the folder has none.

    Raises:
        UserError: a file of another format, or an image with another number of captions.
    """
    path = data_dir / "dataset_flickr30k.json"
    if path.is_file():
        references = _karpathy(path)
    elif (path := _the_one(data_dir, "results*.token")) is not None:
        references = _token_file(path)
    else:
        return {}
    for image, captions in references.items():
        texts = [caption for caption in captions if isinstance(caption, str)]
        if not len(texts) == len(captions) == CAPTIONS_PER_IMAGE:
            raise UserError(
                f"{path} has {len(texts)} captions of {image}, not {CAPTIONS_PER_IMAGE}: get it "
                "again, or take it away to score by one caption"
            )
    return references


def _karpathy(path: Path) -> dict[str, list[str]]:
    try:
        return {
            image["filename"]: [sentence["raw"] for sentence in image["sentences"]]
            for image in json.loads(read_text(path))["images"]
            if image["split"] == "test"
        }
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} is not Karpathy's dataset of Flickr30k ({type(error).__name__}: {error}): "
            "expected images with filename, split and sentences with raw"
        ) from error


def _token_file(path: Path) -> dict[str, list[str]]:
    references = defaultdict(list)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        name, tab, caption = line.partition("\t")
        image, mark, _ = name.rpartition("#")
        if tab and mark:
            references[image].append(caption)
        elif line.strip():
            raise UserError(f"line {number} of {path} is not '<name>.jpg#<number> TAB <caption>'")
    return dict(references)


def _question(record: dict, data_dir: Path) -> Question:
    return Question(
        key=str(record["question_id"]),
        question_id=record["question_id"],
        image=data_dir / "flickr30k-images" / record["image"],
        prompt=record["text"],
        tower_question=record["text"],
        max_new_tokens=MAX_NEW_TOKENS,
    )


def _records(path: Path, **fields: type | tuple[type, ...]) -> list[dict]:
    records = []
    for number, record in read_lines(path):
        if isinstance(record, str):
            raise UserError(record)
        for name, kind in fields.items():
            if not isinstance(record.get(name), kind):
                raise UserError(
                    f"line {number} of {path} has no '{name}', or one of the wrong type"
                )
        records.append(record)
    return records


def _the_one(data_dir: Path, pattern: str) -> Path | None:
    found = sorted(data_dir.glob(pattern))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{data_dir} has more than one {pattern} ({names}): leave one there")
    return found[0] if found else None
