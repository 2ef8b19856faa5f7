"""The quickstart's last lines: a question chosen by rule, and the result in a sentence."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from llava.eval.benchmarks import gqa
from llava.eval.report.disagreements import Side
from llava.eval.report.journal import read_entries
from llava.eval.report.write import write_report
from llava.mini.benchmarks import write_benchmarks
from llava.mini.pair import RIGHT, WRONG, pair_picture
from llava.mini.result import main

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "accm-mini"
SIZES = {"mme": 2, "mmbench": 8, "pope": 1, "mmvp": 2, "seed": 12, "gqa": 8, "flickr": 2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_benchmarks(folder, seed=0, split="test", sizes=SIZES)
    return folder / "gqa"


@pytest.fixture
def questions(data_dir):
    return gqa.read_annotations(data_dir)


@pytest.fixture
def run(tmp_path, data_dir, questions, capsys):
    """run(scores by method) writes runs and a report, and gives the command's status and lines."""

    def run(scores, model=CHECKPOINT):
        files = [result_file(method, right) for method, right in scores.items()]
        write_report(files, tmp_path / "report", 0)
        figure = tmp_path / "example.png"
        flags = ["--figure", str(figure), "--model-path", str(model)]
        status = main(["--report", str(tmp_path / "report"), *flags])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    def result_file(method, right):
        """A run that answers as many questions right as are named, and the others with "dragon"."""
        tokens = {"full": 144, "no image": 0}.get(method, 9)
        answers_file = tmp_path / f"{method}.jsonl"
        settings = dict(model_id="m", method=method, visual_token_num=tokens, num_patches=144)
        result = {
            "benchmark": "gqa",
            "main_number": {"name": "accuracy", "value": 100 * len(right) / len(questions)},
            "questions": {one.id: int(one.id in right) for one in questions},
            "data_dir": str(data_dir),
            "answers_file": str(answers_file),
            "settings": settings,
        }
        captions = ["a red star", "a blue ring"] if method == "accm" else None
        trace = {"kept_idx": list(range(9)), "captions": captions, "chosen_index": 1}
        lines = [
            {
                "key": one.id,
                "record": {"text": one.answer if one.id in right else "dragon"},
                "trace": trace,
            }
            for one in questions
        ]
        folder = tmp_path / f"{method}.jsonl.run"
        folder.mkdir()
        (folder / "answers-0.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        path = tmp_path / f"{method}.json"
        path.write_text(json.dumps(result))
        return path

    return run


def colours(path):
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    return {tuple(pixel) for pixel in np.unique(pixels, axis=0).tolist()}


def test_the_first_question_that_captions_saved(run, questions, tmp_path):
    every = [one.id for one in questions]
    open_ones = [one for one in questions if one.answer not in ("yes", "no")]
    saved = open_ones[1]
    lost = [open_ones[0].id]  # wrong with captions too, so it is not shown
    accm = [key for key in every if key not in lost]
    prune = [key for key in every if key not in [*lost, saved.id]]
    status, lines, _ = run({"full": every, "prune": prune, "accm": accm})
    assert status == 0
    assert lines[1:4] == [
        f"  {saved.question.tower_question} Truth: {saved.answer}.",
        f"  prune (9 tokens): dragon, wrong, truth: {saved.answer}",
        f"  accm (9 tokens): {saved.answer}, right",
    ]
    shares = [f"{100 * len(right) / len(every):.0f}%" for right in (prune, accm)]
    assert lines[-1] == (
        f"On GQA, with 9 of 144 tokens the model reaches {shares[0]} of its score with all tokens; "
        f"with captions {shares[1]}; report: {tmp_path / 'report' / 'report.html'}"
    )
    assert {RIGHT, WRONG} <= colours(tmp_path / "example.png")


def test_a_failure_is_shown_as_a_failure(run, questions, tmp_path):
    """Where captions save nothing, the first question is shown, however it was answered."""
    every = [one.id for one in questions]
    status, lines, _ = run({"full": every, "prune": [], "accm": []})
    assert status == 0
    assert [line.split("), ")[-1].count("wrong, truth: ") for line in lines[2:4]] == [1, 1]
    assert "reaches 0% of its score with all tokens; with captions 0%" in lines[-1]
    found = colours(tmp_path / "example.png")
    assert WRONG in found and RIGHT not in found


def test_without_a_run_to_compare_with_there_is_no_picture(run, questions, tmp_path):
    status, lines, _ = run({"accm": [questions[0].id]})
    assert status == 0 and not (tmp_path / "example.png").exists()
    assert lines == [
        "accm-mini knows drawn scenes of coloured shapes; another picture gets nonsense.",
        f"There is no run with all tokens to compare with; report: {tmp_path}/report/report.html",
    ]


def test_bad_input_is_one_line(tmp_path, capsys):
    figure = ["--figure", str(tmp_path / "a.png")]
    assert main(["--report", str(tmp_path / "none"), *figure]) == 2
    (tmp_path / "report.csv").write_text("a,b\n1,2\n")
    assert main(["--report", str(tmp_path), *figure]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith("error: ")


def test_a_model_without_a_card_is_not_spoken_of(run, questions, tmp_path):
    (tmp_path / "mine").mkdir()
    _, lines, _ = run({"accm": [questions[0].id]}, tmp_path / "mine")
    assert len(lines) == 1


def test_of_several_views_each_token_is_where_it_lies(questions, tmp_path):
    """Four patches of the tiles, of which a row has 24, cover one of the base view."""
    run = tmp_path / "a.jsonl.run"
    run.mkdir()
    sides = dict(rows=12, columns=12)
    tiles = [dict(start=start, stride=24, **sides) for start in (144, 156, 432, 444)]

    def picture(kept, views=(dict(start=0, stride=12, **sides), *tiles)):
        trace = {"kept_idx": kept, "views": views}
        line = {"key": "1", "record": {"text": "red"}, "trace": trace}
        (run / "answers-0.jsonl").write_text(json.dumps(line) + "\n")
        entry = read_entries(tmp_path / "a.jsonl", {"1"})["1"]
        about = SimpleNamespace(num_patches=720, tokens=18)
        return pair_picture(questions[0].question, "red", [Side(about, 1.0, entry)]).tobytes()

    assert picture([0]) == picture([144, 145, 168, 169]) != picture([144, 145, 168])
    assert picture([143]) == picture([719, 718, 695, 694])
    # A journal that does not say where its views are.
    older = [{"tokens": 144, **sides} for _ in range(5)]
    assert picture([0], older) == picture([1], older)
    assert picture([0], [dict(start=0, stride=0, **sides)] * 5) == picture([0], older)
