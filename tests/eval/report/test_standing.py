"""Methods side by side: paired differences, the front of score against cost, published numbers."""

import dataclasses
import json

import pytest

from llava.eval.cost import Cost, read_cost, write_cost
from llava.eval.report import pareto, published
from llava.eval.report.comparison import compare
from llava.eval.report.plot import OTHER, method_styles
from llava.eval.report.runs import read_runs
from llava.eval.report.standing import budgets
from llava.eval.report.write import write_report

COST = Cost(
    questions=8,
    seconds=0.5,
    spread=0.04,
    stages={"encode": 0.25, "decode": 0.125},
    operations=2e9,
    counted=3e9,
    tokens_by_layer=[96.0, 96.0, 32.0, 32.0],
    peak_bytes=5 << 20,
    machine="a machine",
)


@pytest.fixture
def four_runs(workshop):
    """Of ten questions full gets eight right, ACCM six, `scope` seven, `pool` six others."""
    return [
        workshop.result("full", [1] * 8 + [0] * 2, "full", None),
        workshop.result("floor", [1] * 2 + [0] * 8, "no image", None),
        workshop.result("accm", [1] * 6 + [0] * 4),
        workshop.result("scope", [1] * 7 + [0] * 3, "scope"),
        workshop.result("pool", [0] * 4 + [1] * 6, "pool"),
        workshop.result("scope72", [1] * 8 + [0] * 2, "scope", 72),
    ]


def test_each_budget_has_its_methods_the_best_first(four_runs):
    large, small = budgets(compare(read_runs(four_runs)))
    assert (large.title, small.title) == ("72 of 576 tokens", "36 of 576 tokens")
    assert [one.row.method for one in small.standings] == ["scope", "accm", "pool"]
    assert [one.is_best for one in small.standings] == [True, False, False]
    assert [one.row.method for one in small.limits] == ["full", "no image"]
    assert large.standings[0].to_accm is None  # ACCM has no run of this budget


def test_differences_are_paired(four_runs):
    """`scope` is right where ACCM is, and once more; `pool` as often as ACCM, but elsewhere."""
    _, small = budgets(compare(read_runs(four_runs)))
    scope, accm, pool = small.standings
    assert accm.to_accm is None and scope.to_best is None
    assert scope.to_accm.value == pytest.approx(1 / 8)
    assert accm.to_best.value == pytest.approx(-1 / 8)
    assert scope.to_accm.low >= 0  # in no draw is ACCM better
    assert pool.to_accm.value == 0 and pool.to_accm.low < -0.1 and pool.to_accm.high > 0.1


def test_costs_are_read_beside_the_answers(four_runs, workshop):
    answers = workshop.folder / "scope.jsonl"
    write_cost(answers, COST)
    assert read_cost(answers) == dataclasses.replace(COST, stages=dict(COST.stages))
    _, small = budgets(compare(read_runs(four_runs)))
    assert small.has_costs and small.stages == ["encode", "decode"]
    (cost,) = [one.row.cost for one in small.standings if one.row.cost]
    assert cost.tokens == 64 and cost.schedule == "96 from layer 0, 32 from layer 2"
    assert dataclasses.replace(cost, tokens_by_layer=[9.0, 9.0]).schedule == ""


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        {"seconds": "fast"},
        {"seconds": -1},
        {"tokens_by_layer": []},
        {"stages": [1]},
        {"more": 1},
        {"peak_bytes": True},
    ],
)
def test_a_damaged_cost_is_none(tmp_path, damage):
    write_cost(tmp_path / "a.jsonl", COST)
    path = tmp_path / "a.jsonl.run" / "cost.json"
    made = json.loads(path.read_text())
    path.write_text(damage if isinstance(damage, str) else json.dumps(made | damage))
    assert read_cost(tmp_path / "a.jsonl") is None


def test_the_front_has_what_no_other_beats_in_both(four_runs, workshop):
    """`pool` costs as much as `scope` and scores less; ACCM costs more and scores less."""
    for name, seconds in (("scope", 1), ("pool", 1), ("accm", 2), ("scope72", 3), ("full", 4)):
        write_cost(workshop.folder / f"{name}.jsonl", dataclasses.replace(COST, seconds=seconds))
    rows = compare(read_runs(four_runs)).rows
    time, operations = pareto.axes(rows)
    assert (time, operations) == (pareto.TIME, pareto.COUNTED)
    points = pareto.points(rows, time)
    assert [(pareto.label(point.row), point.number) for point in points] == [
        ("scope, 36 tokens", 1),
        ("pool, 36 tokens", None),
        ("pruned, with captions, 36 tokens", None),
        ("scope, 72 tokens", 2),
        ("all tokens", None),
    ]
    chart = pareto.pareto_chart("POPE", rows, method_styles(rows), time)
    assert chart.count('class="number"') == 2
    write_cost(workshop.folder / "accm.jsonl", dataclasses.replace(COST, counted=None))
    assert pareto.axes(compare(read_runs(four_runs)).rows)[1] == pareto.FORMULA


def test_the_report_has_all_of_it(four_runs, workshop, tmp_path):
    for name in ("scope", "accm", "full"):
        write_cost(workshop.folder / f"{name}.jsonl", COST)
    write_report(four_runs, tmp_path / "out", 0)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "Score against time and operations" in page and "500 ms" in page and "2 GFLOP" in page
    assert "| **scope** | **87.5 [" in text and "| 96 from layer 0" not in text
    assert "64.0 (96 from layer 0, 32 from layer 2)" in text and "| 500 ms ± 4% |" in text
    assert "Published numbers" not in page + text  # no run is of a published budget


def test_of_many_methods_the_best_keep_their_colours(workshop):
    names = [f"method{number:02}" for number in range(20)]
    paths = [workshop.result("full", [1] * 40, "full", None), workshop.result("accm", [1] * 40)]
    for number, name in enumerate(names):
        paths.append(workshop.result(name, [1] * number + [0] * (40 - number), name))
    styles = method_styles(compare(read_runs(paths)).rows)
    assert [name for name, style in styles.items() if style < OTHER] == [
        "accm",
        "prune",
        *names[:13:-1],
    ]
    assert styles["method13"] == styles["method00"] == OTHER


def test_published_numbers_stand_beside_those_of_their_size(workshop):
    """FastV at 64: 46.1 of GQA in family S; in family C 48.0 by one source and 46.0 by another."""

    def run(name, tokens, benchmark, **more):
        return workshop.result(
            f"{name}{tokens}{benchmark}", [1, 0], name, tokens, benchmark, **more
        )

    paths = [
        run("fastv", 64, "gqa", main_number={"name": "accuracy", "value": 47.5}),
        run("fastv", 64, "mme", perception=1000.0, total=1200.0),
        run("fastv", 60, "gqa"),
    ]
    tables = published.set_beside(read_runs(paths))
    assert [table.title.split(":")[0] for table in tables] == ["Family S", "Family C"]
    assert {table.tokens for table in tables} == {64}
    of_s, of_c = ([line for line in table.lines if line.method == "fastv"] for table in tables)
    assert [line.published["gqa"] for line in of_s] == [46.1]
    assert [line.published["gqa"] for line in of_c] == [48.0, 46.0]
    assert of_s[0].measured == {"gqa": 47.5, "mme": 1200.0}
    assert of_c[0].measured == {"gqa": 47.5, "mme": 1000.0}
    assert all(line.source for table in tables for line in table.lines[1:])
    assert tables[0].lines[0].published["mme"] == 1862

    small = {"model_id": "accm-mini", "method": "fastv", "visual_token_num": 64}
    path = run("mini", 64, "gqa", settings=small | {"num_patches": 144})
    assert published.set_beside(read_runs([path])) == []
