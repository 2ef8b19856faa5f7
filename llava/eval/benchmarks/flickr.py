"""Flickr30k: a caption for each image, compared with people's captions.

Layout of a data folder: ``flickr30k-images/<name>.jpg``, ``questions*.jsonl`` (LLaVA's question
file), ``annotations*.jsonl`` (one caption per image) and, for scores over five captions per image,
``dataset_flickr30k.json`` (Karpathy's splits) or ``results*.token``. Mistakes in these two about an
image that no question asks about are ignored.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError, quoted
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.names import as_id, is_name, visible
from llava.eval.benchmarks.question import Question, need_texts, need_unique
from llava.files import read_json, read_text
from llava.utils.jsonl import read_objects

HOME = "https://shannon.cs.illinois.edu/DenotationGraph"
LAYOUT = (
    "Flickr30k's folder holds flickr30k-images/<name>.jpg with questions.jsonl and "
    "annotations.jsonl, and dataset_flickr30k.json or results_20130124.token for five captions "
    "per image"
)
# lmms-eval's wording; that of ACCM's authors is not published.
PROMPT = "Provide a one-sentence caption for the provided image."
MAX_NEW_TOKENS = 128
CAPTIONS_PER_IMAGE = 5

answer_record = llava_files.answer_record


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """Reads all questions: LLaVA's file, or one question for each image that has captions.

    Args:
        data_dir: the benchmark's folder.
        question_file: LLaVA's file; by default the ``questions*.jsonl`` of the folder. Without one,
            the images of the annotations are asked about, or else those with five captions
            (of Karpathy's test split, or of all of the .token file), in the order of that file.

    Raises:
        UserError: there is no file to read questions from, or a line is not a question.
    """
    path = question_file or _the_one(data_dir, "questions*.jsonl")
    if path is not None:
        records = llava_files.read_question_records(path)
    elif (path := _the_one(data_dir, "annotations*.jsonl")) is not None:
        records = [
            {"question_id": i} | record | {"text": PROMPT}
            for i, record in enumerate(_annotations(path, "image"))
        ]
    elif (references := read_references(data_dir)) is not None:
        path = references.path
        records = [
            {"question_id": i, "image": name, "text": PROMPT}
            for i, name in enumerate(references.asked())
        ]
    else:
        raise UserError(f"there are no questions in {data_dir}: {LAYOUT}; get it from {HOME}")
    return need_unique([_question(record, data_dir) for record in records], path)


def read_annotations(data_dir: Path, questions: Sequence[Question]) -> tuple[list[str], int] | None:
    """Returns one caption for each question, and the number of captions without a question.

    Returns None if the folder has no annotations.

    Annotations are matched to questions by question_id, else by image if both name each image once,
    else line k belongs to question k. Annotations of images that are not asked about are left out,
    unless they are matched by their line.

    Raises:
        UserError: a line is not an annotation, or the annotations belong to other questions.
    """
    path = _the_one(data_dir, "annotations*.jsonl")
    if path is None:
        return None
    records = list(_annotations(path, "text"))
    texts = [record["text"] for record in records]
    images = [question.image_name for question in questions]
    named: list[Any] = [record.get("image") for record in records]
    if all("question_id" in record for record in records):
        ids = [str(record["question_id"]) for record in records]
        return _join(path, [question.key for question in questions], ids, texts, "question_id")
    if (
        all(map(is_name, named))
        and len(set(named)) == len(named)
        and len(set(images)) == len(images)
    ):
        return _join(path, images, named, texts, "image")
    if len(records) != len(questions):
        raise UserError(
            f"{path} has {len(records)} captions without question_id, for {len(questions)} "
            "questions: give it one line per question, or question_ids"
        )
    return texts, 0


def _join(
    path: Path, keys: Sequence[str], known: Sequence[str], texts: Sequence[str], by: str
) -> tuple[list[str], int]:
    captions = dict(zip(known, texts, strict=True))
    lacking = [key for key in keys if key not in captions]
    if lacking or len(captions) < len(known):
        raise UserError(
            f"{path} does not hold one annotation for each question: {by} "
            f"{quoted(lacking[0]) + ' is not there' if lacking else 'twice'}; mend it, or leave out"
            " question_ids and images to match by line"
        )
    return [captions[key] for key in keys], len(captions) - len(keys)


def read_references(data_dir: Path) -> References | None:
    """Returns the five captions of each image; None if the folder has none.

    Raises:
        UserError: the file has another format.
    """
    path = data_dir / "dataset_flickr30k.json"
    if os.path.isfile(path):
        return read_karpathy(path)
    token_file = _the_one(data_dir, "results*.token")
    return None if token_file is None else read_token_file(token_file)


def _annotations(path: Path, field: str) -> list[dict]:
    """Returns the lines of an annotation file, which must have a text or an image in a field."""
    records = []
    for number, record in read_objects(path):
        value = record.get(field)
        if not (isinstance(value, str) if field == "text" else is_name(value)):
            raise UserError(
                f"line {number} of {path} has no '{field}', or one of the wrong type: mend it"
            )
        if "question_id" in record:
            record["question_id"] = as_id(record["question_id"])
            if record["question_id"] is None:
                raise UserError(
                    f"line {number} of {path} has a question_id that cannot be: mend it"
                )
        records.append(record)
    return records


def _question(record: dict, data_dir: Path) -> Question:
    return Question(
        key=str(record["question_id"]),
        question_id=record["question_id"],
        image=data_dir / "flickr30k-images" / record["image"],
        prompt=record["text"],
        tower_question=record["text"],
        max_new_tokens=MAX_NEW_TOKENS,
    )


def _the_one(data_dir: Path, pattern: str) -> Path | None:
    found = visible(data_dir.glob(pattern))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{data_dir} has more than one {pattern} ({names}): leave one there")
    return found[0] if found else None


@dataclass(frozen=True)
class References:
    """Captions of images.

    Attributes:
        path: the file that they come from.
        captions: the captions of each image, by its name.
        test: names of the images that are asked about by default.
        bad: one message for each place that was skipped.
    """

    path: Path
    captions: dict[str, list[str]]
    test: list[str]
    bad: list[str]

    def asked(self) -> list[str]:
        """Returns the names of the images that are asked about; warns if some are left out.

        Raises:
            UserError: there are none.
        """
        names = [name for name in self.test if self._has_five(name)]
        if not names:
            raise UserError(f"{self.path} has no image with five captions: {self._why(self.test)}")
        if self.bad or len(names) < len(self.test):
            warnings.warn(f"images are left out: {self._why(self.test)}", stacklevel=2)
        return names

    def of(self, questions: Sequence[Question]) -> list[list[str]]:
        """Returns the five captions of the image of each question.

        Raises:
            UserError: an image does not have five.
        """
        names = [question.image_name for question in questions]
        lacking = [name for name in names if not self._has_five(name)]
        if lacking:
            raise UserError(
                f"{len(lacking)} of {len(names)} images have not {CAPTIONS_PER_IMAGE} captions in "
                f"{self.path}: {self._why(lacking)}, or take it away to score by one caption"
            )
        return [self.captions[name] for name in names]

    def _has_five(self, name: str) -> bool:
        return len(self.captions.get(name, ())) == CAPTIONS_PER_IMAGE

    def _why(self, names: Sequence[str]) -> str:
        """Returns a message about images without captions: what is known, and the way out."""
        lacking = next((name for name in names if not self._has_five(name)), None)
        count = None if lacking is None else len(self.captions.get(lacking, ()))
        image = [] if lacking is None else [f"{quoted(lacking)} has {count}"]
        return "; ".join([*image, *(self.bad[:1] or ["mend the file, or get it again"])])


def read_karpathy(path: Path) -> References:
    """Reads Karpathy's dataset_flickr30k.json.

    Raises:
        UserError: the file has another format.
    """
    images = read_json(path).get("images")
    if not isinstance(images, list):
        raise UserError(f"{path} is not Karpathy's dataset: it has no list of images; get it again")
    captions: dict[str, list[str]] = defaultdict(list)
    test: dict[str, bool] = {}
    bad: list[str] = []
    for place, image in enumerate(images, start=1):
        try:
            name, split, texts = _image(image, f"image {place} of {path}")
        except UserError as error:
            bad.append(str(error))
            continue
        captions[name] += texts
        if split == "test":
            test[name] = True
    return References(path, dict(captions), list(test), bad)


def _image(image: object, where: str) -> tuple[str, str, list[str]]:
    image = need_texts(image, ("split",), where, ids=("filename",))
    sentences = image.get("sentences")
    if not isinstance(sentences, list):
        raise UserError(f"{where}: no list under sentences: mend it, or get it again")
    texts = [need_texts(sentence, ("raw",), where)["raw"] for sentence in sentences]
    return image["filename"], image["split"], texts


def read_token_file(path: Path) -> References:
    """Reads results_20130124.token: an image, #, a number, a tab and a caption on each line.

    Raises:
        UserError: the file is not UTF-8.
    """
    captions, bad = defaultdict(list), []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        name, tab, caption = line.partition("\t")
        image, mark, _ = name.rpartition("#")
        if tab and mark and is_name(image):
            captions[image].append(caption)
        elif line.strip():
            bad.append(
                f"line {number} of {path} is not '<name>.jpg#<number> TAB <caption>': mend it, or "
                "get it again"
            )
    return References(path, dict(captions), list(captions), bad)
