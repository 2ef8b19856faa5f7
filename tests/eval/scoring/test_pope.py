import json

import pytest

from llava.errors import UserError
from llava.eval.benchmarks.pope import CATEGORIES, read_questions
from llava.eval.scoring.pope import headline, predicted_label, score

SUFFIX = "\nAnswer the question using a single word or phrase."
ROWS = [
    ("1.jpg", "Is there a dog in the image?", "yes"),
    ("1.jpg", "Is there an orange in the imange?", "no"),
    ("2.jpg", "Is there a dog in the image?", "no"),
    ("2.jpg", "Is there a cup in the image?", "yes"),
]


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "coco").mkdir()
    for category in CATEGORIES:
        write_labels(tmp_path, category, ROWS)
    return tmp_path


def write_labels(folder, category, rows):
    names = ("question_id", "image", "text", "label")
    lines = [json.dumps(dict(zip(names, (i, *row)))) for i, row in enumerate(rows, start=1)]
    (folder / "coco" / f"coco_pope_{category}.json").write_text("\n".join(lines))


def write_questions(folder, rows=ROWS, categories=CATEGORIES):
    asked = [(category, row) for category in categories for row in rows]
    lines = [
        {"question_id": i, "image": row[0], "text": row[1] + SUFFIX, "category": category}
        for i, (category, row) in enumerate(asked, start=1)
    ]
    path = folder / "llava_pope_test.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def answers(data_dir, *texts):
    """These answers over and over."""
    return [
        {"question_id": q.question_id, "prompt": q.prompt, "text": texts[i % len(texts)]}
        for i, q in enumerate(read_questions(data_dir))
    ]


def test_questions_are_numbered_across_the_categories(data_dir):
    built = read_questions(data_dir)
    assert [q.question_id for q in built] == list(range(1, 13))
    assert built[5].prompt == "Is there an orange in the imange?" + SUFFIX
    assert built[5].image == data_dir / "val2014" / "1.jpg"
    write_questions(data_dir)
    assert read_questions(data_dir) == built


@pytest.mark.parametrize(
    "text, says",
    [
        ("No", "no"),
        ("no, it is absent", "no"),
        ("Yes, it is not hidden", "no"),
        ("No.", "no"),
        ("There is not, sadly", "no"),
        ("Yes. No.", "yes"),
        ("NO", "yes"),
        ("Not", "yes"),
        ("Nope", "yes"),
        ("No!", "yes"),
        ("None", "yes"),
        ("", "yes"),
        ("...No", "yes"),
        ("No\nYes", "yes"),
        ("No\xa0dog", "yes"),
    ],
)
def test_what_an_answer_says(text, says):
    assert predicted_label(text) == says


def test_a_category_worked_by_hand(data_dir):
    scores = score(data_dir, answers(data_dir, "Yes", "Yes", "No", "Yes"))
    assert scores["categories"]["popular"] == {
        "samples": 4,
        "TP": 2,
        "FP": 1,
        "TN": 1,
        "FN": 0,
        "accuracy": 0.75,
        "precision": 2 / 3,
        "recall": 1.0,
        "f1": pytest.approx(0.8, abs=1e-12),
        "yes_ratio": 0.75,
    }
    assert scores["average"]["f1"] == pytest.approx(0.8, abs=1e-12)
    assert scores["questions"]["2"] == 0
    assert headline(scores) == "POPE: F1 80.00 (accuracy 75.00, yes ratio 75.0%)"


def test_nothing_said_to_be_there(data_dir):
    scores = score(data_dir, answers(data_dir, "No"))  # the official script divides by zero
    assert scores["categories"]["random"]["f1"] == 0.0
    assert scores["average"]["accuracy"] == 0.5


def test_a_missing_answer_is_the_wrong_one(data_dir):
    records = answers(data_dir, "Yes", "No", "No", "Yes")
    with pytest.raises(UserError, match="2 of 12 questions have no answer .*question_id 1, 2"):
        score(data_dir, records[2:])
    scores = score(data_dir, records[2:], allow_missing=True)
    assert scores["missing"] == [1, 2]
    first = scores["categories"]["adversarial"]
    assert (first["samples"], first["TP"], first["FP"], first["TN"], first["FN"]) == (2, 1, 1, 1, 1)
    assert first["yes_ratio"] == 0.5
    assert scores["categories"]["random"]["f1"] == 1.0


def test_labels_of_another_release_are_matched_by_question(data_dir):
    write_questions(data_dir)
    records = answers(data_dir, "Yes", "No", "No", "Yes")
    assert score(data_dir, records)["reordered_labels"] == []
    more = [("3.jpg", "Is there a cat in the image?", "no"), *ROWS[::-1]]
    write_labels(data_dir, "random", more)
    scores = score(data_dir, records)
    assert scores["reordered_labels"] == ["random"]
    assert scores["average"]["f1"] == 1.0
    assert "another release (random)" in headline(scores)
    (data_dir / "llava_pope_test.jsonl").unlink()
    with pytest.raises(UserError, match="lack LLaVA's llava_pope_test.jsonl"):
        score(data_dir, records)


def test_only_the_categories_that_were_asked_count(data_dir):
    write_questions(data_dir, categories=["popular"])
    scores = score(data_dir, answers(data_dir, "Yes", "No", "No", "Yes"))
    assert list(scores["categories"]) == ["popular"]
    assert scores["average"]["accuracy"] == 1.0


def test_a_question_without_a_label(data_dir):
    write_questions(data_dir, [*ROWS, ("9.jpg", "Is there a bus in the image?", "yes")])
    with pytest.raises(
        UserError, match="question 5 of .*bus.*'9.jpg', category 'adversarial'.* has no label"
    ):
        score(data_dir, answers(data_dir, "Yes"))


def test_ids_that_fit_with_other_questions(data_dir):
    records = answers(data_dir, "Yes")
    shifted = [a | {"prompt": b["prompt"]} for a, b in zip(records, records[1:] + records[:1])]
    with pytest.raises(UserError, match="answers are, by id and question, to no question"):
        score(data_dir, shifted)


@pytest.mark.parametrize(
    "line, says",
    [
        ("{", "line 1 of .*random.json is not JSON"),
        ("[]", "holds a list, not a JSON object"),
        ('{"image": "1.jpg", "text": "Is there?"}', "line 1 of .*no text under label"),
        ('{"image": "1.jpg", "text": "Is there?", "label": "No"}', "label 'No' is not yes or no"),
        ("", "holds no label"),
    ],
)
def test_labels_that_are_not_right(data_dir, line, says):
    (data_dir / "coco" / "coco_pope_random.json").write_text(line)
    with pytest.raises(UserError, match=says):
        read_questions(data_dir)


def test_both_labels_for_one_question(data_dir):
    write_questions(data_dir)
    write_labels(data_dir, "random", [*ROWS, (*ROWS[0][:2], "no")])
    with pytest.raises(UserError, match="coco_pope_random.json has both labels"):
        score(data_dir, answers(data_dir, "Yes"))


@pytest.mark.parametrize(
    "line, says",
    [
        ('{"question_id": 1, "image": "1.jpg"}', "line 1 of .* is no question of LLaVA's"),
        ('{"question_id": true, "image": "1.jpg", "text": "a"}', "is no question of LLaVA's"),
        ("no json", "line 1 of .* is not JSON"),
        ("", "holds no question"),
        ('{"question_id": 1, "image": "1.jpg", "text": "a"}\n' * 2, "asks question '1' twice"),
    ],
)
def test_question_files_that_are_not_right(data_dir, line, says):
    (data_dir / "llava_pope_test.jsonl").write_text(line)
    with pytest.raises(UserError, match=says):
        read_questions(data_dir)


def test_labels_in_other_words_and_another_order(data_dir):
    """POPE has written "image" for "imange" since November 2023; other copies say "picture"."""
    write_questions(data_dir)
    records = answers(data_dir, "Yes", "No", "No", "Yes")
    more = ("3.jpg", "Is there a cat in the image?", "no")
    words = ("image", "picture", "Image")
    for n, category in enumerate(CATEGORIES):
        rows = [
            (image, text.replace("imange", "image").replace("image?", f"{words[n]} ?"), label)
            for image, text, label in ROWS[::-1]
        ]
        write_labels(data_dir, category, [*rows, more])
    scores = score(data_dir, records)
    assert scores["average"]["f1"] == 1.0
    assert (scores["missing"], scores["unasked"]) == ([], 3)
    assert "3 labels are of questions that are not asked" in headline(scores)
    (data_dir / "llava_pope_test.jsonl").unlink()
    for category in CATEGORIES:  # and where only these are there, in LLaVA's order
        respelt = [(image, t.replace("imange", "image"), label) for image, t, label in ROWS]
        write_labels(data_dir, category, respelt)
    assert score(data_dir, records)["average"]["f1"] == 1.0


def test_an_object_is_not_taken_for_another(data_dir):
    rows = [
        ("1.jpg", "Is there a cat in the hat in the image?", "yes"),
        ("1.jpg", "Is there a cat in the image?", "no"),
    ]
    write_questions(data_dir, rows, ["random"])
    write_labels(data_dir, "random", rows[::-1])
    assert score(data_dir, answers(data_dir, "Yes", "No"))["average"]["accuracy"] == 1.0
