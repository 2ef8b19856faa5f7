import csv
import json
import re

import pytest
from PIL import Image

from llava.errors import UserError
from llava.eval import answer, score
from llava.eval.benchmarks.mmvp import answer_record, read_questions
from llava.eval.scoring.mmvp import extract_answer
from llava.eval.scoring.mmvp import score as mmvp_score

HEADER = ["Index", "Question", "Options", "Correct Answer"]
ROWS = [
    ["1", "Is it open?", "(a) Open (b) Closed", "(a)"],
    ["2", "Is it open?", "(a) Open (b) Closed", "(b)"],
    ["3", "How many?", " (a) One, or so (b) Two", "(b)"],
    ["4", "How many?", "(a) One (b) Two", "(a)"],
]


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "mmvp"
    (folder / "MMVP Images").mkdir(parents=True)
    for number in range(1, 5):
        Image.effect_noise((40, 30), 20 * number).convert("RGB").save(
            folder / "MMVP Images" / f"{number}.jpg"
        )
    write_csv(folder, HEADER, ROWS)
    return folder


def write_csv(folder, header, rows):
    with (folder / "Questions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def answers(*texts):
    return [{"question_id": i, "answer": text} for i, text in enumerate(texts)]


def test_questions_and_prompts(data_dir):
    questions = read_questions(data_dir)
    assert questions[2].extra == {
        "gt_answer": "(b)",
        "text_options": ["One, or so", "Two"],
        "pair": 1,
    }
    assert questions[0].prompt == (
        "Is it open? Options:\nA. Open\nB. Closed"
        "\nAnswer with the option's letter from the given choices directly."
    )
    assert questions[0].tower_question == "Is it open?"
    assert [q.image.name for q in questions] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]


def test_the_other_spelling_of_the_first_column(data_dir):
    write_csv(data_dir, ["lndex", *HEADER[1:]], ROWS)
    assert read_questions(data_dir)[3].image.name == "4.jpg"


@pytest.mark.parametrize(
    "text, comes_down_to",
    [
        ("A", "a"),
        (" (B). ", "b"),
        ("a)", "a"),
        ("Answer: (B)", "b"),
        ("The answer is A", "a"),
        ("The answer is: A", ": a"),  # the reference's order of steps
        ("A. Open", "a. open"),
        ("Closed.", "closed"),
        ("a.)", "a."),
        ("", ""),
    ],
)
def test_what_an_answer_comes_down_to(text, comes_down_to):
    assert extract_answer(text) == comes_down_to


def test_only_whole_pairs_count(data_dir):
    scores = mmvp_score(data_dir, answers("A", "closed", "B", "B"))
    assert (scores["correct"], scores["total"], scores["accuracy"]) == (2, 4, 50.0)
    assert scores["individually_correct"] == 3
    assert scores["incorrect"] == [3]


def test_answers_are_matched_by_their_id(data_dir):
    shuffled = answers("A", "B", "B", "A")[::-1]
    assert mmvp_score(data_dir, shuffled)["accuracy"] == 100.0
    with pytest.raises(UserError, match="1 of 4 questions have no answer .*question_id 0"):
        mmvp_score(data_dir, shuffled[:3])
    assert mmvp_score(data_dir, shuffled[:3], allow_missing=True)["accuracy"] == 50.0
    with pytest.raises(UserError, match="to no question of"):
        mmvp_score(data_dir, [*shuffled, {"question_id": 99, "answer": "A"}])


def test_recorded_runs_of_the_method(shared_benchmarks):
    folder, recorded = shared_benchmarks / "mmvp", shared_benchmarks / "mmvp_recorded"
    questions = read_questions(folder)
    for run in json.loads((recorded / "index.json").read_text()):
        records = score.read_answers(recorded / run["file"])
        scores = mmvp_score(folder, records)
        for name in ("correct", "total", "accuracy", "individually_correct"):
            assert scores[name] == run[name], (run["file"], name)
        for question, record in zip(questions, records, strict=True):  # the same prompts too
            assert answer_record(question, record["answer"], "", record["model_id"]) == record


@pytest.mark.parametrize("name", ["plain_0.jsonl", "odd_0.jsonl"])
def test_numbers_of_the_official_scorer(shared_benchmarks, name):
    folder = shared_benchmarks / "fixtures" / "mmvp"
    expected = json.loads((folder / "expected.json").read_text())["answers"][name]
    scores = mmvp_score(folder, score.read_answers(folder / "answers" / name))
    for key in ("correct", "total", "accuracy"):
        assert scores[key] == pytest.approx(expected[key], abs=1e-9)


def test_answered_and_scored_by_two_commands(data_dir, tiny_flags, tmp_path, capsys):
    path, scores = tmp_path / "answers.jsonl", tmp_path / "scores.json"
    flags = ["--data-dir", str(data_dir), "--answers-file", str(path)]
    assert answer.main(["mmvp", *tiny_flags, *flags, "--batch-size", "3"]) == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["question_id"] for record in records] == [0, 1, 2, 3]
    assert records[0]["model_id"] == "llava-v1.5-tiny"
    assert records[0]["prompt"].startswith("A chat between a curious user")
    out = capsys.readouterr().out
    assert "4 of 4 questions answered" in out
    assert re.search(r"[\d.]+ s after loading: [\d.]+ s in the model, [\d.]+ s of engine over", out)
    assert "%" not in out  # of a short run, the overhead is a large share of little
    assert score.main(["mmvp", *flags, "--json", str(scores)]) == 0
    written = json.loads(scores.read_text())
    assert written["total"] == 4
    assert written["main_number"] == {"name": "accuracy", "value": written["accuracy"]}
    assert written["settings"]["model_id"] == "llava-v1.5-tiny"
    assert "MMVP: pair accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda d: (d / "Questions.csv").unlink(), "get it from https"),
        (lambda d: write_csv(d, ["Index", "Question"], []), "lacks the column"),
        (lambda d: write_csv(d, HEADER, [ROWS[0][:2]]), "row ending on line 2: it has 2 cells"),
        (lambda d: write_csv(d, HEADER, [["1", "Q", "yes or no", "(a)"]]), "expected options"),
        (lambda d: write_csv(d, HEADER, [["1", "Q", "(a) x (b) y", "c"]]), "expected options"),
        (lambda d: (d / "Questions.csv").write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
        (lambda d: write_csv(d, HEADER, []), "holds no questions"),
    ],
)
def test_a_data_folder_that_is_not_right(data_dir, tmp_path, capsys, change, says):
    change(data_dir)
    flags = ["--data-dir", str(data_dir), "--answers-file", str(tmp_path / "a.jsonl")]
    assert answer.main(["mmvp", "--model-path", "m", *flags]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "name a benchmark first"),
        (["vqa"], "name a benchmark first"),
        (["mmvp"], "--answers-file FILE"),
        (["mmvp", "--data-dir", "d", "--answers-file", "gone.jsonl"], "no file gone.jsonl"),
        (["mmvp", "--data-dir", "d", "--answers-file", "bad.jsonl"], "line 1 of bad.jsonl is not"),
        (["mmvp", "--data-dir", "d", "--answers-file", "other.jsonl"], "has no answer:"),
        (["mmvp", "--data-dir", "d", "--answers-file", "types.jsonl"], "has no answer:"),
    ],
)
def test_mistakes_when_scoring(tmp_path, monkeypatch, capsys, flags, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text("no json\n")
    (tmp_path / "other.jsonl").write_text('{"question_id": 1, "text": "A"}\n')
    (tmp_path / "types.jsonl").write_text('{"question_id": 1, "answer": 7}\n')
    assert score.main(flags) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("first", ["", "Unnamed: 0", "Options of old"])
def test_the_index_is_found_by_its_name(data_dir, first):
    write_csv(data_dir, [first, *HEADER], [[str(n), *row] for n, row in enumerate(ROWS)])
    assert [q.image.name for q in read_questions(data_dir)] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]


def test_pairs_are_told_by_the_index_whatever_the_order(data_dir):
    given = answers("A", "B", "A", "A")
    wanted = mmvp_score(data_dir, given)
    assert (wanted["accuracy"], wanted["individually_correct"]) == (50.0, 3)
    write_csv(data_dir, HEADER, [ROWS[2], ROWS[0], ROWS[3], ROWS[1]])
    assert mmvp_score(data_dir, given) == wanted
    write_csv(data_dir, HEADER, ROWS[1:])  # the first has lost its partner
    assert mmvp_score(data_dir, answers("B", "B", "B"))["correct"] == 1


@pytest.mark.parametrize("index", ["", "nan", "0", "1.5", "x", "2"])
def test_an_index_that_cannot_be(data_dir, index):
    write_csv(data_dir, HEADER, [[index, *ROWS[0][1:]], *ROWS[1:]])
    with pytest.raises(UserError, match="line [23]: the Index"):
        read_questions(data_dir)
