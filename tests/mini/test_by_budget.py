"""Captions at many budgets: shares and steps by hand, and one short run."""

import json
from dataclasses import replace

import pytest

from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.eval.report.statistics import difference
from llava.mini import by_budget
from llava.mini.benchmarks import write_benchmarks
from llava.mini.measuring.by_budget import average_shares, steps
from llava.mini.measuring.questions import Asked, read_asked

READ = ("pruned", "accm", "first beam", "best candidate", "true caption", "false caption")


def group(benchmark, full, pruned, accm):
    """A benchmark with a question about each of as many images as there are scores."""
    questions = [Question(str(i), str(i), f"{i}".encode(), "?", "?", 8) for i in range(len(full))]
    asked = [Asked(benchmark, question, "color", "", None, []) for question in questions]
    rows = []
    for whole, few, told in zip(full, pruned, accm):
        row = {(9, "full"): whole, (9, "pruned"): few[0], (36, "pruned"): few[1]}
        rows.append(row | {(9, "accm"): told[0], (36, "accm"): told[1]})
    return asked, rows


@pytest.fixture
def shares():
    pope = group("pope", [1, 1], [(0, 1), (1, 1)], [(1, 0), (1, 1)])
    gqa = group("gqa", [1, 0], [(0.5, 0.5), (0, 0)], [(0.5, 0.5), (0, 0.5)])
    return average_shares([pope, gqa])


def test_shares_are_of_the_score_with_all_tokens(shares):
    # POPE: 1/2 of 1 at 9 tokens; GQA: 1/4 of 1/2.
    assert shares[9, "pruned"].value == pytest.approx((0.5 + 0.5) / 2)
    assert shares[36, "pruned"].value == pytest.approx((1 + 0.5) / 2)
    assert shares[9, "accm"].value == pytest.approx((1 + 0.5) / 2)
    assert shares[36, "accm"].value == pytest.approx((0.5 + 1) / 2)


def test_steps_end_at_all_tokens(shares):
    assert [step.value for step in steps(shares, [9, 36], "pruned")] == pytest.approx([0.25, 0.25])
    assert [step.value for step in steps(shares, [9, 36], "accm")] == pytest.approx([0, 0.25])


def test_differences_are_paired():
    """What is the same for each image has no width, however the images differ."""
    full = [1.0] * 20
    few = [(i % 5 / 10, i % 5 / 10 + 0.1) for i in range(20)]
    shares = average_shares([group("pope", full, few, [(b, a) for a, b in few])])
    (step, _) = steps(shares, [9, 36], "pruned")
    assert (step.low, step.high) == pytest.approx((0.1, 0.1))
    cost = difference(shares[36, "accm"], shares[36, "pruned"])
    assert (cost.low, cost.high) == pytest.approx((-0.1, -0.1))
    assert shares[9, "pruned"].high - shares[9, "pruned"].low > 0.05


def test_a_model_that_answers_nothing_has_no_shares():
    with pytest.raises(UserError, match="answers nothing"):
        average_shares([group("pope", [0, 0], [(0, 0)] * 2, [(0, 0)] * 2)])


def test_a_benchmark_without_a_right_answer_is_left_out():
    able = group("pope", [1, 1], [(0, 1), (1, 1)], [(1, 0), (1, 1)])
    unable = group("gqa", [0, 0], [(0, 0)] * 2, [(0, 0)] * 2)
    assert average_shares([able, unable])[9, "pruned"].value == pytest.approx(0.5)


def test_a_short_run(tmp_path, tiny_flags, monkeypatch, capsys):
    root = tmp_path / "eval"
    root.mkdir()
    sizes = dict.fromkeys(("mme", "mmbench", "pope", "mmvp", "seed", "gqa", "flickr"), 1)
    write_benchmarks(root, seed=5, split="validation", sizes=sizes)

    def read_short(*args):
        """Short answers: random weights never stop."""
        found = read_asked(*args)
        return [replace(o, question=replace(o.question, max_new_tokens=2)) for o in found]

    def score(root, name, measured, partial):
        return [dict.fromkeys(one.texts, 1.0) for one in measured]

    monkeypatch.setattr("llava.mini.measuring.by_budget.read_asked", read_short)
    monkeypatch.setattr("llava.mini.measuring.scores.score_answers", score)
    output = tmp_path / "out.json"
    flags = ["--data-root", str(root), "--benchmarks", "pope", "mmvp", "--budgets", "20", "5"]
    flags += ["--true-and-false", "--output", str(output)]
    assert by_budget.main([*tiny_flags, *flags]) == 0
    numbers = json.loads(output.read_text())
    assert numbers["settings"]["budgets"] == [5, 20]
    assert [list(row) for row in numbers["shares"].values()] == [list(READ)] * 2
    assert all(row["accm"]["value"] == 1 for row in numbers["shares"].values())
    assert list(numbers["steps"]["accm"]) == ["5", "20"]
    shown = capsys.readouterr().out
    assert "| 5 | 1.000 |" in shown and "costs" not in shown


def test_all_tokens_are_no_budget(tmp_path, tiny_flags, eval_folder, capsys):
    flags = ["--data-root", str(eval_folder), "--benchmarks", "pope", "--budgets", "9", "100000"]
    assert by_budget.main([*tiny_flags, *flags]) == 2
    assert "--budgets has 100000" in capsys.readouterr().err
