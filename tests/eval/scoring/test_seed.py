import json

import pytest

from llava.errors import UserError
from llava.eval.benchmarks.seed import read_questions
from llava.eval.scoring.seed import headline, score, write_upload


def entry(question_id, answer, dimension, data_type="image", **other):
    return {
        "answer": answer,
        "choice_a": "One",
        "choice_b": "Two",
        "choice_c": "Three",
        "choice_d": "Four",
        "data_id": f"{question_id}_data",
        "data_type": data_type,
        "question": f"How many are in {question_id}?",
        "question_id": question_id,
        "question_type_id": dimension,
    } | other


CONTENT = {
    "questions": [
        entry("101", "A", 5),
        entry("102", "B", 5),
        entry("103", "C", 1),
        entry("v0", "D", 10, "video", segment=None),
    ],
    "question_type": {"Action Recognition": 10, "Scene Understanding": 1, "Instances Counting": 5},
}


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "SEED-Bench.json").write_text(json.dumps(CONTENT))
    return tmp_path


def answers(*texts):
    return [{"question_id": i, "text": text} for i, text in zip((101, 102, 103, "v0"), texts)]


def test_questions_are_built(data_dir):
    first, *_, last = read_questions(data_dir)
    assert (first.question_id, last.question_id) == (101, "v0")
    assert first.prompt == (
        "How many are in 101?\nA. One\nB. Two\nC. Three\nD. Four"
        "\nAnswer with the option's letter from the given choices directly."
    )
    assert first.tower_question == "How many are in 101?"
    assert first.image == data_dir / "SEED-Bench-image" / "101_data"
    assert last.image == data_dir / "SEED-Bench-video-image" / "10_v0.png"


def test_scores_worked_by_hand(data_dir):
    scores = score(data_dir, answers("A", "C", "C", "A"))
    assert scores == {
        "total": 50.0,
        "image": pytest.approx(200 / 3, abs=1e-9),
        "video": 0.0,  # the official script stops at a dimension without a right answer
        "dimensions": {
            "Scene Understanding": 100.0,
            "Instances Counting": 50.0,
            "Action Recognition": 0.0,
        },
        "questions": {"101": 1, "102": 0, "103": 1, "v0": 0},
        "missing": [],
        "unscored": [],
        "unasked": 0,
    }
    assert next(iter(scores["dimensions"])) == "Scene Understanding"
    assert headline(scores) == "SEED-Bench: accuracy 50.00% (image 66.67, video 0.00)"


@pytest.mark.parametrize("text", ["a", "A.", "(A)", " A", "A\n", "A. One", "\uff21", "One", ""])
def test_only_the_letter_itself_is_right(data_dir, text):
    assert score(data_dir, answers(text, "B", "C", "D"))["total"] == 75.0


def test_without_videos(data_dir):
    content = CONTENT | {"questions": CONTENT["questions"][:3]}
    (data_dir / "SEED-Bench.json").write_text(json.dumps(content))
    scores = score(data_dir, answers("A", "B", "C"))
    assert scores["video"] is None
    assert list(scores["dimensions"]) == ["Scene Understanding", "Instances Counting"]
    assert headline(scores) == "SEED-Bench: accuracy 100.00% (image 100.00)"


def test_an_image_whose_id_is_a_text_is_not_found(data_dir):
    records = answers("A", "B", "C", "D")
    records[1]["question_id"] = "102"
    with pytest.raises(UserError, match="question_id 102.*1 ids .* are texts: write them as num"):
        score(data_dir, records)
    scores = score(data_dir, records, allow_missing=True)
    assert (scores["total"], scores["missing"]) == (75.0, [102])


def test_texts_for_ids_cost_what_the_official_scorer_takes(shared_benchmarks):
    folder = shared_benchmarks / "fixtures" / "seed_bench"
    lines = (folder / "answers" / "string_ids.jsonl").read_text().splitlines()
    official = json.loads((folder / "expected.json").read_text())["answers"]["string_ids.jsonl"]
    scores = score(folder, [json.loads(line) for line in lines], allow_missing=True)
    for name in ("total", "image", "video", "dimensions"):
        assert scores[name] == pytest.approx(official[name], abs=1e-9)


def test_answers_without_a_label_do_not_count_and_are_named(data_dir):
    unknown = {"question_id": 999, "text": "A"}
    scores = score(data_dir, [*answers("A", "B", "C", "D"), unknown])
    assert (scores["total"], scores["unscored"]) == (100.0, [999])
    assert "1 answers have no label and do not count" in headline(scores)
    with pytest.raises(UserError, match="1 of 1 answers .*question_id 999"):
        score(data_dir, [unknown], allow_missing=True)


@pytest.mark.parametrize(
    "content, says",
    [
        ("{", "SEED-Bench.json is not valid JSON"),
        ("[]", "holds a list, not a JSON object"),
        ('{"questions": []}', "lacks question_type .* or questions"),
        (json.dumps(CONTENT | {"question_type": {"x": [1]}}), "lacks question_type"),
        (json.dumps(CONTENT | {"questions": [3]}), "question 1 of .*a int stands where"),
        (
            json.dumps(CONTENT | {"questions": [{}]}),
            "question 1 of .*no text under question, answer",
        ),
        (json.dumps(CONTENT | {"questions": [entry("1", "A", 7)]}), "question_type_id 7"),
        (json.dumps(CONTENT | {"questions": [entry("1", "A", 5, "sound")]}), "'sound' is not"),
    ],
)
def test_data_that_are_not_right(data_dir, content, says):
    (data_dir / "SEED-Bench.json").write_text(content)
    with pytest.raises(UserError, match=says):
        read_questions(data_dir)


def write_llava_file(folder, **images):
    """LLaVA's questions about what CONTENT has, and of a video more."""
    old = entry("v1", "A", 10, "video")
    (folder / "SEED-Bench.json").write_text(
        json.dumps(CONTENT | {"questions": [*CONTENT["questions"], old]})
    )
    lines = [
        {
            "question_id": q.question_id,
            "image": images.get(q.key, str(q.image.relative_to(folder))),
            "text": q.prompt,
        }
        for q in read_questions(folder)
    ]
    path = folder / "llava-seed-bench.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_llavas_questions_with_the_revised_labels(data_dir):
    """The edition of November 2023 is without some videos, rewords, and adds."""
    write_llava_file(data_dir)
    records = [*answers("A", "B", "C", "A"), {"question_id": "v1", "text": "A"}]
    for record, question in zip(records, read_questions(data_dir)):
        record["prompt"] = question.prompt
    reworded = CONTENT["questions"][0] | {"question": "How many are there in 101, all in all?"}
    content = CONTENT | {"questions": [*CONTENT["questions"][::-1][:3], reworded]}
    content["questions"].append(entry("104", "A", 5))
    (data_dir / "SEED-Bench.json").write_text(json.dumps(content))
    scores = score(data_dir, records)
    assert (scores["total"], scores["image"], scores["video"]) == (75.0, 100.0, 0.0)
    assert (scores["missing"], scores["unscored"], scores["unasked"]) == ([], ["v1"], 1)
    assert "1 labels are of questions that are not asked; 1 answers have no" in headline(scores)
    (data_dir / "llava-seed-bench.jsonl").unlink()  # then 101 asks something else
    with pytest.raises(UserError, match="2 of 5 questions have no answer .question_id 101, 104"):
        score(data_dir, records)


def test_files_that_do_not_go_together(data_dir):
    write_llava_file(data_dir, **{"101": "SEED-Bench-image/other"})
    content = json.loads((data_dir / "SEED-Bench.json").read_text())
    content["questions"][0]["question"] = "Something else?"
    (data_dir / "SEED-Bench.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="mean different questions by 101: they are of two edit"):
        score(data_dir, answers("A", "B", "C", "D"))


def test_ids_that_are_numbers(data_dir):
    questions = [CONTENT["questions"][0] | {"question_id": 101.0}, *CONTENT["questions"][1:]]
    (data_dir / "SEED-Bench.json").write_text(json.dumps(CONTENT | {"questions": questions}))
    assert read_questions(data_dir)[0].question_id == 101
    assert score(data_dir, answers("A", "B", "C", "D"))["total"] == 100.0


def test_the_file_for_upload(data_dir, tmp_path):
    path = tmp_path / "upload.jsonl"
    write_upload(data_dir, answers("A", "B.", "", "D")[::-1], path)
    assert path.read_text() == (
        '{"question_id": "101", "prediction": "A"}\n'
        '{"question_id": "102", "prediction": "B."}\n'
        '{"question_id": "103", "prediction": ""}\n'
        '{"question_id": "v0", "prediction": "D"}\n'
    )
    with pytest.raises(UserError, match="1 of 4 questions have no answer"):
        write_upload(data_dir, answers("A", "B", "C"), path)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"question_id": "a\ud800"}, "a text in it is not Unicode"),
        ({"question_id": None}, "question_id None cannot be an id"),
        ({"question_id": 0.5}, "question_id 0.5 cannot be an id"),
        ({"question_id": "102"}, "asks question '102' twice"),
        ({"data_id": "nan"}, "data_id 'nan' cannot be an id or a file's name"),
        ({"data_id": "a\0b"}, "data_id .* cannot be an id or a file's name"),
        ({"answer": "E"}, "the answer 'E' is none of A, B, C, D"),
        ({"choice_a": 3}, "no text under choice_a"),
    ],
)
def test_ids_and_texts_that_cannot_be(data_dir, change, says):
    questions = [CONTENT["questions"][0] | change, *CONTENT["questions"][1:]]
    (data_dir / "SEED-Bench.json").write_text(json.dumps(CONTENT | {"questions": questions}))
    with pytest.raises(UserError, match=says):
        read_questions(data_dir)
