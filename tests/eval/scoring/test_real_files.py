"""LLaVA's own question files, its published answers and both releases of POPE's labels.

They are read where they lie (../shared/benchmarks/real); none of it is part of the project.
"""

import csv
import json
import shutil

import openpyxl
import pytest

from llava.eval import score as score_command
from llava.eval.benchmarks import gqa, mme, pope
from llava.eval.benchmarks.mmbench import FILE
from llava.eval.score import read_answers
from llava.eval.scoring import mmbench, seed
from llava.eval.scoring.matching import find_by_id, match, need_fields
from llava.eval.scoring.pope import headline
from llava.eval.scoring.pope import score as score_pope

ANSWERS = "answers-llava-v1.5-13b.jsonl"


@pytest.fixture(scope="module")
def real(shared_benchmarks):
    return shared_benchmarks / "real"


@pytest.mark.parametrize(
    "module, name, count",
    [
        (pope, "pope/llava_pope_test.jsonl", 8910),
        (gqa, "gqa/llava_gqa_testdev_balanced.jsonl", 12578),
        (mme, "MME/llava_mme.jsonl", 2374),
    ],
)
def test_questions_and_answers_are_read_whole(real, tmp_path, module, name, count):
    path = real / name
    questions = module.read_questions(tmp_path, path)
    assert len(questions) == len({question.key for question in questions}) == count
    answers = need_fields(read_answers(path.with_name(ANSWERS)), ("prompt", "text"))
    for question, record in zip(questions, answers, strict=True):  # the same prompts too
        given = (record["text"], record["answer_id"], record["model_id"])
        assert module.answer_record(question, *given) == record
    find = find_by_id(questions)
    if module is mme:
        known = mme.finder(question.key for question in questions)

        def find(record):
            return known(mme.question_key(record["question_id"], record["prompt"]))

    keys = {question.key: question.question_id for question in questions}
    matched = match(keys, answers, find, allow_missing=False)
    assert len(matched.texts) == count and not matched.unscored


@pytest.mark.parametrize("release, unasked", [("coco", 0), ("coco-since-2023-11", 90)])
def test_pope_scores_the_published_number_with_both_releases(real, tmp_path, release, unasked):
    shutil.copytree(real / "pope" / release, tmp_path / "coco")
    shutil.copy(real / "pope" / "llava_pope_test.jsonl", tmp_path)
    scores = score_pope(tmp_path, read_answers(real / "pope" / ANSWERS))
    f1 = {category: 100 * each["f1"] for category, each in scores["categories"].items()}
    assert f1 == pytest.approx({"adversarial": 84.46, "popular": 86.25, "random": 87.14}, abs=5e-3)
    assert 100 * scores["average"]["f1"] == pytest.approx(85.95, abs=5e-3)
    assert (len(scores["questions"]), scores["missing"], scores["unasked"]) == (8910, [], unasked)
    assert ("90 labels are of questions that are not asked" in headline(scores)) == bool(unasked)


def test_mmbench_upload_is_the_published_file(real, tmp_path):
    """The table is put together from the published upload, which lacks hints and images."""
    published = openpyxl.load_workbook(real / "mmbench" / "upload-llava-v1.5-13b.xlsx").active
    header, *rows = published.values
    kept = [place for place, name in enumerate(header) if name != "prediction"]
    more = ("hint", "image", "category", "l2-category")
    with (tmp_path / FILE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow([*(header[place] for place in kept), *more])
        table.writerows([[*(row[place] for place in kept), *[""] * len(more)] for row in rows])
    answers = read_answers(real / "mmbench" / ANSWERS)
    mmbench.write_upload(tmp_path, answers, tmp_path / "upload.xlsx")
    ours = openpyxl.load_workbook(tmp_path / "upload.xlsx")
    assert ours.sheetnames == ["Sheet1"]
    assert list(ours.active.values) == [header, *rows]  # columns, order, texts, types
    scores = mmbench.score(tmp_path, answers)
    assert scores["overall"] == pytest.approx(0.676871, abs=5e-7)
    assert len(scores["questions"]) == 1176


def test_seed_upload_has_the_published_fields_and_types(real, shared_benchmarks, tmp_path):
    published = read_answers(real / "seed_bench" / "upload-llava-v1.5-13b.jsonl")
    assert len(published) == 19242
    folder = shared_benchmarks / "fixtures" / "seed_bench"
    answers, path = folder / "answers" / "plain.jsonl", tmp_path / "upload.jsonl"
    flags = ["--data-dir", str(folder), "--answers-file", str(answers), "--upload", str(path)]
    assert score_command.main(["seed", *flags]) == 0
    fields = {"question_id": str, "prediction": str}
    for record in [*published, *read_answers(path)]:
        assert {name: type(value) for name, value in record.items()} == fields
    asked = json.loads((folder / "SEED-Bench.json").read_text())["questions"]
    texts = {str(record["question_id"]): record["text"] for record in read_answers(answers)}
    assert read_answers(path) == [
        {"question_id": one["question_id"], "prediction": texts[one["question_id"]]}
        for one in asked
    ]
    assert seed.score(folder, read_answers(answers))["unscored"] == []
