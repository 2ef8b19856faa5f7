import json
import shutil

import pytest

from llava.errors import UserError
from llava.eval.benchmarks.gqa import read_questions
from llava.eval.scoring.gqa import headline, predicted_answer, score


def annotation(question, answer, structural="verify", **other):
    return {
        "semantic": [
            {"operation": "select", "dependencies": [], "argument": "bag"},
            {"operation": "exist", "dependencies": [0], "argument": "?"},
        ],
        "entailed": [],
        "question": question,
        "imageId": "n1",
        "isBalanced": True,
        "groups": {"global": None, "local": "x"},
        "answer": answer,
        "types": {"detailed": "exist", "semantic": "obj", "structural": structural},
    } | other


STEPS = [
    {"operation": operation, "dependencies": [], "argument": argument}
    for operation, argument in [("select", "bag"), ("query", "name"), ("choose name", "a|b")]
]
COLOR = {"global": "color", "local": "x"}
COMMON = {"detailed": "twoCommon", "semantic": "attr", "structural": "compare"}
CONTENT = {
    "10": annotation("Is it red?", "yes", entailed=["10", "13", "14"]),
    "11": annotation("What color is the bag?", "red", "query", groups=COLOR, semantic=STEPS),
    "12": annotation("What color is the cup?", "blue", "query", groups=COLOR, semantic=STEPS),
    "13": annotation("What do they share?", "color", types=COMMON),
    "14": annotation("Is there a bag?", "no", isBalanced=False),
}
RIGHT = {"10": "Yes", "11": "Red.", "12": "Blue", "13": "Color", "14": "No"}


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path, "questions", CONTENT)
    return tmp_path


def write(folder, name, content):
    (folder / "data" / f"testdev_balanced_{name}.json").write_text(json.dumps(content))


def answers(**said):
    texts = RIGHT | {key.lstrip("_"): text for key, text in said.items()}
    return [{"question_id": key, "text": text} for key, text in texts.items()]


def test_questions_are_built(data_dir):
    first, *_, last = read_questions(data_dir)
    assert (first.key, first.question_id, last.question_id) == ("10", "10", "14")
    assert first.prompt == "Is it red?\nAnswer the question using a single word or phrase."
    assert first.image == data_dir / "data" / "images" / "n1.jpg"


@pytest.mark.parametrize(
    "text, compared",
    [
        ("Yes", "yes"),
        ("Yes...", "yes"),
        ("Yes. ", "yes. "),
        ("yes!", "yes!"),
        (" yes", " yes"),
        (".Red", ".red"),
        ("A dog", "a dog"),
        ("", ""),
    ],
)
def test_what_is_compared(text, compared):
    assert predicted_answer(text) == compared


def test_scores_worked_by_hand(data_dir):
    scores = score(data_dir, answers(_12="red", _13="a color", _14="yes"))
    assert (scores["accuracy"], scores["binary"], scores["open"]) == (50.0, 50.0, 50.0)
    assert (scores["validity"], scores["plausibility"]) == (0.0, 0.0)
    # Two reds for one, no blue for one, two gold answers: 2 * (1 + 1) / 2 / 100.
    assert scores["distribution"] == pytest.approx(0.02, abs=1e-12)
    assert scores["consistency"] == 0.0
    assert scores["accuracyPerStructuralType"] == {
        "compare": {"accuracy": 0.0, "questions": 1},
        "query": {"accuracy": 50.0, "questions": 2},
        "verify": {"accuracy": 100.0, "questions": 1},
    }
    assert scores["accuracyPerSteps"] == {"1": {"accuracy": 50.0, "questions": 4}}
    assert scores["accuracyPerLength"] == {
        "3": {"accuracy": 100.0, "questions": 1},
        "4": {"accuracy": 0.0, "questions": 1},
        "5": {"accuracy": 50.0, "questions": 2},
    }
    assert scores["questions"] == {"10": 1, "11": 1, "12": 0, "13": 0}
    assert headline(scores) == "GQA: accuracy 50.00% (binary 50.00, open 50.00)"


def test_choices_where_they_are(data_dir):
    colors = {"valid": ["red", "blue"], "plausible": ["red"]}
    truths = {"valid": ["yes", "no"], "plausible": ["yes", "no"]}
    choices = {"10": truths, "11": colors, "12": colors, "13": truths}
    write(data_dir, "choices", choices)
    scores = score(data_dir, answers(_10="red", _13="size"))
    # 10 is not a truth; 13 is of the type Common, where only color, material and shape will do.
    assert (scores["validity"], scores["plausibility"]) == (50.0, 25.0)
    assert score(data_dir, answers(_13="Shape"))["validity"] == 100.0
    del choices["11"]
    write(data_dir, "choices", choices)
    with pytest.raises(UserError, match="choices.json lacks 1 questions .'11'."):
        score(data_dir, answers())
    write(data_dir, "choices", choices | {"10": {"valid": []}})
    with pytest.raises(UserError, match="question '10' of .* lacks a list"):
        score(data_dir, answers())


def test_consistency_needs_every_entailed_answer(data_dir):
    assert score(data_dir, answers(_14="yes"))["consistency"] == 50.0
    assert score(data_dir, answers(_10="no"))["consistency"] == 0.0
    without = [record for record in answers() if record["question_id"] != "14"]
    assert "consistency" not in score(data_dir, without)  # 14 is not balanced: it need not be there
    elsewhere = CONTENT | {"12": CONTENT["12"] | {"entailed": ["999"]}}
    write(data_dir, "questions", elsewhere)
    assert "consistency" not in score(data_dir, answers())


@pytest.mark.parametrize("file", ["plain.jsonl", "odd.jsonl", "duplicate_and_extra.jsonl"])
def test_choices_and_consistency_as_the_official_script_has_them(shared_benchmarks, tmp_path, file):
    folder = shared_benchmarks / "fixtures" / "gqa"
    (tmp_path / "data").mkdir()
    shutil.copy(folder / "data" / "testdev_balanced_questions.json", tmp_path / "data")
    shutil.copy(folder / "optional" / "testdev_balanced_choices.json", tmp_path / "data")
    lines = (folder / "answers" / file).read_text("utf-8").splitlines()
    scores = score(tmp_path, [json.loads(line) for line in lines])
    official = json.loads((folder / "expected.json").read_text("utf-8"))["answers"][file]
    for name, value in official["with_choices_and_consistency"].items():
        assert scores[name] == pytest.approx(value, abs=1e-9), name


def test_a_missing_answer_is_wrong(data_dir):
    without = [record for record in answers() if record["question_id"] != "11"]
    with pytest.raises(UserError, match="1 of 4 questions have no answer .*question_id '11'"):
        score(data_dir, without)
    scores = score(data_dir, without, allow_missing=True)
    assert (scores["accuracy"], scores["open"], scores["missing"]) == (75.0, 50.0, ["11"])


def test_answers_to_other_questions_are_ignored_if_some_are_to_these(data_dir):
    extra = {"question_id": "999", "text": "Yes"}
    assert score(data_dir, [*answers(), extra])["accuracy"] == 100.0
    with pytest.raises(UserError, match="1 of 1 answers are, by id and question, to no question"):
        score(data_dir, [extra], allow_missing=True)


@pytest.mark.parametrize("allow_missing", [False, True])
def test_integer_ids(data_dir, allow_missing):
    records = [record | {"question_id": int(record["question_id"])} for record in answers()]
    with pytest.raises(UserError, match="4 of 4 questions .* 5 ids .* are numbers: write them as"):
        score(data_dir, records, allow_missing)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"answer": None}, "question '10' of .*no text under answer"),
        ({"types": {}}, "question '10' of .*no text under detailed, semantic, structural"),
        ({"types": 3}, "question '10' of .*a int stands where an object is expected"),
        ({"semantic": None}, "question '10' of .*semantic, entailed, groups or isBalanced"),
        ({"semantic": [{"operation": "exist"}]}, "question '10' of .*no text under argument"),
        ({"groups": {"global": []}}, "question '10' of .*no text under global"),
    ],
)
def test_annotations_that_are_not_right(data_dir, change, says):
    write(data_dir, "questions", CONTENT | {"10": CONTENT["10"] | change})
    with pytest.raises(UserError, match=says):
        score(data_dir, answers())


def test_not_utf8(data_dir):
    path = data_dir / "data" / "testdev_balanced_questions.json"
    path.write_bytes(b'{"caf\xe9": 1}')
    with pytest.raises(UserError, match="not UTF-8"):
        read_questions(data_dir)


def write_llava_file(folder, ids, **changes):
    lines = [
        {"question_id": i, "image": "n1.jpg", "text": CONTENT[str(i)]["question"] + "\nShort."}
        | changes.get(f"_{i}", {})
        for i in ids
    ]
    path = folder / "llava_gqa_testdev_balanced.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_annotations_that_nobody_asks_for(data_dir):
    write_llava_file(data_dir, ["12", "10", "11"])
    scores = score(data_dir, [record for record in answers() if record["question_id"] < "13"])
    assert (scores["accuracy"], scores["missing"], scores["unasked"]) == (100.0, [], 2)
    assert "2 labels are of questions that are not asked" in headline(scores)


def test_annotations_in_other_words(data_dir):
    write_llava_file(data_dir, list(CONTENT))
    records = [r | {"prompt": CONTENT[r["question_id"]]["question"]} for r in answers()]
    reworded = {
        key: one | {"question": f"{one['question'][:-1]} , please ?"}
        for key, one in CONTENT.items()
    }
    write(data_dir, "questions", dict(reversed(reworded.items())))
    assert score(data_dir, records)["accuracy"] == 100.0


def test_ids_that_pandas_made_numbers(data_dir):
    write_llava_file(data_dir, [int(key) for key in CONTENT])
    asked = read_questions(data_dir)
    records = [{"question_id": q.question_id, "text": RIGHT[q.key]} for q in asked]
    assert score(data_dir, records)["accuracy"] == 100.0
    assert score(data_dir, answers())["accuracy"] == 100.0  # and as GQA has them


def test_questions_of_another_edition(data_dir):
    other = {"image": "n2.jpg", "text": "Is it cold?\nShort."}
    write_llava_file(data_dir, list(CONTENT), _11=other)
    with pytest.raises(UserError, match="mean different questions by '11': they are of two edit"):
        score(data_dir, answers())


def test_nothing_that_counts(data_dir):
    content = {key: one | {"isBalanced": False} for key, one in CONTENT.items()}
    write(data_dir, "questions", content)
    with pytest.raises(UserError, match="is balanced, and only those count"):
        score(data_dir, answers())
