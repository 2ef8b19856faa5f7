import json

import pytest

from llava.errors import UserError
from llava.eval.report.__main__ import main
from llava.eval.report.runs import read_run, read_runs


def test_a_run_is_what_the_file_says(workshop):
    run = read_run(workshop.result("a", [1, 0.5, False]))
    assert (run.benchmark, run.model, run.method) == ("pope", "llava-v1.5-7b", "accm")
    assert (run.tokens, run.num_patches, run.main_name, run.main_value) == (36, 576, "F1", 0.5)
    assert run.scores == {"q1": 1.0, "q2": 0.5, "q3": 0.0}
    assert run.answers_file.name == "a.jsonl"
    assert run.label == "accm (36 tokens)"


def test_full_and_floor_know_their_tokens(workshop):
    assert read_run(workshop.result("a", [1], "full", None)).tokens == 576
    assert read_run(workshop.result("b", [1], "no image", None)).tokens == 0
    assert read_run(workshop.result("c", [1], "no image", None)).label == "no image"


def test_runs_of_different_limits_are_not_compared(workshop):
    paths = [
        workshop.result("a", [1, 0], "full", None, limit=2),
        workshop.result("b", [1, 0, 1], "full", None),
    ]
    with pytest.raises(UserError) as error:
        read_runs(paths)
    assert str(error.value) == (
        f"{paths[0]} was asked the first 2 of POPE's questions and {paths[1]} all (--limit): "
        "compare runs of one limit"
    )
    other = workshop.result("c", [1], "accm", 36, benchmark="mme")
    assert [run.limit for run in read_runs([other, paths[0]])] == [None, 2]


def test_a_run_without_settings_goes_by_its_file(workshop):
    run = read_run(workshop.result("mine", [1], settings=None))
    assert (run.model, run.method, run.tokens) == ("unknown model", "mine", None)


def test_a_caption_score_may_exceed_one(workshop):
    assert read_run(workshop.result("a", [2.5], benchmark="flickr")).scores == {"q1": 2.5}
    with pytest.raises(UserError, match="'q1' has the score 2.5, not a number from 0 to 1"):
        read_run(workshop.result("b", [2.5]))


def test_runs_are_sorted(workshop):
    paths = [
        workshop.result("a", [1], "no image", None),
        workshop.result("b", [1], "prune", 36),
        workshop.result("c", [1], "accm", 36),
        workshop.result("d", [1], "accm", 144),
        workshop.result("e", [1], "full", None),
        workshop.result("f", [1], "full", None, benchmark="mme"),
    ]
    assert [run.path.stem for run in read_runs(paths)] == ["f", "e", "d", "c", "b", "a"]


NAN = float("nan")


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"benchmark": "imagenet"}, "unknown benchmark 'imagenet'; known are mme, mmbench"),
        ({"benchmark": ["pope"]}, "unknown benchmark"),
        ({"main_number": 0.8}, "main_number is not an object with name and value"),
        ({"main_number": {"name": "F1", "value": NAN}}, "main_number is nan, not a number"),
        ({"main_number": {"name": "F1", "value": None}}, "the value of main_number is None"),
        ({"main_number": {"name": "F1", "value": 10**400}}, "not a number"),
        ({"questions": {}}, "questions is not an object with a score a question"),
        ({"questions": [1]}, "questions is not an object"),
        ({"questions": {"q1": 1, "q2": NAN}}, "question 'q2' has the score nan"),
        ({"questions": {"q1": "1"}}, "question 'q1' has the score '1'"),
        ({"questions": {"q1": -1}}, "question 'q1' has the score -1"),
        ({"answers_file": 3}, "answers_file is 3, not a path"),
        ({"limit": 0}, "limit is 0, not a number of questions"),
        ({"limit": "10"}, "limit is '10', not a number of questions"),
        ({"settings": []}, "settings is not an object with model_id and method"),
        ({"settings": {"method": "accm", "visual_token_num": 3}}, "with model_id and method"),
        ({"settings": {"model_id": "m", "method": "accm"}}, "does not say visual_token_num"),
        (
            {"settings": {"model_id": "m", "method": "accm", "visual_token_num": 0}},
            "visual_token_num in settings is 0",
        ),
        (
            {"settings": {"model_id": "m", "method": "full", "num_patches": "576"}},
            "num_patches in settings is '576'",
        ),
    ],
)
def test_a_file_with_something_wrong(workshop, changes, says):
    path = workshop.result("a", [1], **changes)
    with pytest.raises(UserError) as error:
        read_run(path)
    assert str(error.value).startswith(str(path))
    assert says in str(error.value)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "is not JSON"),
        (b'{"benchmark": "pope"', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[1]", "is no result file"),
        (b'{"accuracy": 3}', "is no result file"),
    ],
)
def test_no_result_file(tmp_path, content, says):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_run(path)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        read_run(tmp_path / "gone.json")
    with pytest.raises(UserError, match="cannot read"):
        read_run(tmp_path)
    with pytest.raises(UserError, match="name at least one result file"):
        read_runs([])


def test_the_same_run_twice(workshop):
    first, second = workshop.result("a", [1]), workshop.result("b", [0])
    with pytest.raises(UserError, match="is named twice"):
        read_runs([first, first.parent / "." / first.name])
    with pytest.raises(UserError, match=r"a.json and .*b.json are the same run \(POPE, .*accm"):
        read_runs([first, second])


def test_runs_over_different_questions(workshop):
    paths = [workshop.result("a", [1, 0], "full"), workshop.result("b", [1, 0, 0])]
    with pytest.raises(UserError, match=r"questions of POPE \(2 and 3; only one has 'q3'\)"):
        read_runs(paths)


def test_bad_input_is_one_line_and_writes_nothing(workshop, tmp_path, capsys):
    path = workshop.result("a", [NAN])
    assert main([str(path), "--output", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(workshop, tmp_path, capsys):
    path = workshop.result("a", [1])
    assert main([str(path), "--output", str(path)]) == 2
    assert "cannot make the folder" in capsys.readouterr().err
    assert json.loads(path.read_text())["benchmark"] == "pope"


def test_a_negative_number_of_disagreements(workshop, tmp_path, capsys):
    path = workshop.result("a", [1])
    assert main([str(path), "--output", str(tmp_path / "out"), "--disagreements", "-1"]) == 2
    assert "--disagreements is -1" in capsys.readouterr().err
