import csv
import json
import sys

import openpyxl
import pytest

from llava.errors import UserError
from llava.eval import score as score_command
from llava.eval.benchmarks.mmbench import FILE, read_rows
from llava.eval.scoring.mmbench import extract_option, headline, score, write_upload

HEADER = [
    *("index", "question", "hint", "A", "B", "C", "D"),
    *("answer", "category", "image", "source", "l2-category", "comment", "split"),
]
COLOURS = {"A": "red", "B": "dark green", "C": "blue", "D": "yellow"}
SENTENCES = {"A": "the star is red and small", "B": "the star is blue and nobody looks at it"}
TASKS = [  # index, options, answer, category, ability
    (3, ("red", "blue", "", ""), "A", "colours", "coarse_perception"),
    (4, ("one", "two", "three", ""), "B", "counting", "logic_reasoning"),
    (1000003, ("blue", "red", "", ""), "B", "colours", "coarse_perception"),
    (1000004, ("three", "one", "two", ""), "C", "counting", "logic_reasoning"),
    (5, ("up", "down", "", ""), "B", "counting", "something new"),
]


def write_table(folder, tasks=TASKS, header=HEADER):
    with (folder / FILE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(header)
        for index, options, answer, category, ability in tasks:
            cells = (index, "Which?", "", *options, answer, category, "", "", ability, "", "dev")
            table.writerow(cells[: len(header)])
    return folder


def answers(texts):
    return [{"question_id": index, "text": text} for index, text in texts.items()]


@pytest.fixture
def data_dir(tmp_path):
    return write_table(tmp_path)


RIGHT = {3: "A", 4: "B", 1000003: "B", 1000004: "C", 5: "B"}


@pytest.mark.parametrize(
    "text, letter",
    [
        ("B", "B"),
        (" B ", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("{B}!", "B"),
        ("B. dark green", "B"),
        ("Option B", "B"),
        ("The answer is (D).", "D"),
        ("I would say it is C", "C"),
        ("b", "Z"),
        ("E", "Z"),
        ("A or B", "Z"),
        ("A A", "A"),
        ("A star is on it", "Z"),  # five words, and the letter is not among the last four
        ("A star is here", "A"),  # four words
        ("A word and the last is B A", "Z"),
        ("Z", "Z"),
        ("Z red", "Z"),  # so the text is not looked at
        ("the answer is b", "B"),
        ("The correct answer is **C** in this case I think", "C"),
        ("the answer is dark", "D"),  # no word boundary behind the letter
        ("Answer is A, although B looks right as well", "A"),
        ("It is RED", "A"),
        ("red and blue", "Z"),
        ("none of these", "Z"),
        ("", "Z"),
        ("yellow" + "." * 40, "D"),
        ("yellow" + "." * 41, "Z"),  # more than twice as long as all options, which have 23 letters
        ("Sorry, I can't help with images of people yet. B", "Z"),
        ("I can't process this file. B", "Z"),
        ("I'm sorry, but without the image provided B", "Z"),
        ("Cannot determine the answer B", "Z"),
        ("Failed to obtain answer via API. B", "Z"),
    ],
)
def test_the_option_an_answer_comes_down_to(text, letter):
    assert extract_option(text, COLOURS) == letter


def test_only_options_that_exist_count():
    two = {"A": "red", "B": "blue"}
    assert extract_option("C", two) == "Z"
    assert extract_option("the answer is C", two) == "Z"
    assert extract_option("It is no C but A", two) == "A"


def test_the_text_of_an_option_is_found_in_any_case():
    assert extract_option("THE STAR IS RED AND SMALL.", SENTENCES) == "A"


def test_a_question_counts_only_with_all_its_rotations(data_dir):
    scores = score(data_dir, answers(RIGHT | {1000004: "no idea"}))
    assert scores["overall"] == pytest.approx(2 / 3, abs=1e-12)
    assert scores["categories"] == {"colours": 1.0, "counting": 0.5}
    assert scores["l2_categories"] == {"CP": 1.0, "LR": 0.0, "something new": 1.0}
    assert scores["vanilla"]["first_rotation"]["overall"] == 1.0
    assert scores["vanilla"]["all_rows"]["overall"] == pytest.approx(0.8, abs=1e-12)
    assert scores["vanilla"]["all_rows"]["l2_categories"]["LR"] == 0.5
    assert scores["questions"] == {"3": 1, "4": 0, "5": 1}
    assert headline(scores) == (
        "MMBench: circular accuracy 66.67% of 3 questions (first rotation alone 100.00%)"
    )


def test_missing_answers(data_dir):
    given = answers({i: text for i, text in RIGHT.items() if i not in (5, 1000003)})
    with pytest.raises(UserError, match=r"2 of 5 questions have no answer .*1000003, 5\)"):
        score(data_dir, given)
    scores = score(data_dir, given, allow_missing=True)
    assert scores["missing"] == [1000003, 5]
    assert scores["questions"] == {"3": 0, "4": 1, "5": 0}


def test_of_duplicates_the_last_one_counts_and_strangers_are_ignored(data_dir):
    given = answers(RIGHT | {99: "A"})
    assert score(data_dir, given)["overall"] == 1.0
    assert score(data_dir, [*given, *answers({3: "B"})])["questions"]["3"] == 0
    assert score(data_dir, [*answers({3: "B"}), *given])["questions"]["3"] == 1


@pytest.mark.parametrize(
    "given, says",
    [
        (answers({"3": "A", 77: "B"}), "1 of 2 answers are, by id and question, to no question"),
        (
            [{"question_id": 3, "text": "A"}, {"question_id": 4}],
            "line 2 of the answers file has no",
        ),
        ([{"question_id": [3], "text": "A"}], "line 1 of the answers file has no"),
        ([{"question_id": 3, "text": None}], "line 1 of the answers file has no"),
        ([], "5 of 5 questions have no answer"),
    ],
)
def test_answers_that_do_not_fit(data_dir, given, says):
    with pytest.raises(UserError, match=says):
        score(data_dir, given)


def test_tables_without_labels(tmp_path):
    write_table(tmp_path, header=HEADER[:7] + ["image"])
    with pytest.raises(UserError, match="lacks the column answer, category, l2-category"):
        score(tmp_path, answers(RIGHT))
    write_table(tmp_path, [(3, ("red", "blue", "", ""), "", "colours", "coarse_perception")])
    with pytest.raises(UserError, match=r"in 1 rows the answer is none of A, B, C, D \(index 3\)"):
        score(tmp_path, answers(RIGHT))
    write_table(tmp_path, TASKS[2:4])
    with pytest.raises(UserError, match="only rotations"):
        score(tmp_path, answers(RIGHT))


def test_the_file_for_upload(data_dir, tmp_path):
    path = tmp_path / "upload.xlsx"
    given = answers({3: "A\x07 (red)", 5: "=A1", 4: "", 99: "B"})
    with pytest.raises(UserError, match="2 of 5 questions have no answer"):
        write_upload(data_dir, given, path)
    write_upload(data_dir, given, path, allow_missing=True)
    header, *rows = openpyxl.load_workbook(path)["Sheet1"].values
    assert header == ("index", "question", "A", "B", "C", "D", "prediction", "answer", "split")
    assert rows[0] == (3, "Which?", "red", "blue", None, None, "A (red)", "A", "dev")
    assert [row[6] for row in rows] == ["A (red)", None, None, None, "=A1"]
    assert openpyxl.load_workbook(path).active["G6"].data_type == "s"
    with pytest.raises(UserError, match="answers file of another one"):
        write_upload(data_dir, answers({"v1": "A"}), path)
    with pytest.raises(UserError, match="gone does not exist"):
        write_upload(data_dir, answers(RIGHT), tmp_path / "gone" / "upload.xlsx")


def test_without_openpyxl(data_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"openpyxl, which is not installed: .*\bmmbench\W*$"):
        write_upload(data_dir, answers(RIGHT), tmp_path / "upload.xlsx")
    assert not (tmp_path / "upload.xlsx").exists()


def flat(scores):
    return {"Overall": scores["overall"], **scores["categories"], **scores["l2_categories"]}


@pytest.mark.parametrize("name", ["plain", "odd", "duplicate_and_extra", "missing_question"])
def test_numbers_of_the_official_scorer(shared_benchmarks, tmp_path, name):
    folder = shared_benchmarks / "fixtures" / "mmbench"
    expected = json.loads((folder / "expected.json").read_text())["answers"][f"{name}.jsonl"]
    path = folder / "answers" / "mmbench_dev_20230712" / f"{name}.jsonl"
    given = [json.loads(line) for line in path.read_text().splitlines()]
    scores = score(folder, given, allow_missing=name == "missing_question")
    for ours, theirs in [
        (scores, "vlmevalkit_circular"),
        (scores["vanilla"]["first_rotation"], "vlmevalkit_vanilla_first_rotation"),
        (scores["vanilla"]["all_rows"], "vlmevalkit_vanilla_all_rows"),
    ]:
        assert flat(ours) == pytest.approx(expected[theirs], abs=1e-9)
    assert scores["questions"] == expected["circular_hits"]
    texts = {record["question_id"]: record["text"] for record in given}
    for row in read_rows(folder):
        option = extract_option(texts.get(row.index, ""), row.options)
        assert option == expected["extracted_option"][str(row.index)], texts[row.index]

    write_upload(folder, given, tmp_path / "upload.xlsx", name == "missing_question")
    header, *rows = openpyxl.load_workbook(tmp_path / "upload.xlsx").active.values
    assert list(header) == expected["xlsx_columns"]
    assert len(rows) == expected["xlsx_rows"]
    assert sum(row[6] is None for row in rows) == expected["empty_predictions"]


def test_the_test_split_has_an_upload_and_no_score(tmp_path, capsys):
    write_table(tmp_path)
    rows = list(csv.reader((tmp_path / FILE).open(newline=""), delimiter="\t"))
    with (tmp_path / FILE).open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerows([[*row[:7], *row[8:]] for row in rows])
    path, upload = tmp_path / "answers.jsonl", tmp_path / "upload.xlsx"
    path.write_text("".join(json.dumps(record) + "\n" for record in answers(RIGHT)))
    flags = ["mmbench", "--data-dir", str(tmp_path), "--answers-file", str(path)]
    assert score_command.main([*flags, "--upload", str(upload)]) == 0
    assert f"{upload} is written; " in capsys.readouterr().out
    written, *lines = openpyxl.load_workbook(upload).active.values
    assert written == ("index", "question", "A", "B", "C", "D", "prediction", "split")
    assert [line[0] for line in lines] == [3, 4, 1000003, 1000004, 5]
    upload.unlink()
    for more in ([], ["--upload", str(upload), "--json", str(tmp_path / "scores.json")]):
        assert score_command.main([*flags, *more]) == 2
        assert "lacks the column answer: without labels it can be answered and uploaded" in (
            capsys.readouterr().err
        )
    assert not upload.exists()
