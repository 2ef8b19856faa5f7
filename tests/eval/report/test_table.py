import csv
import io

import pytest

from llava.eval.report.comparison import compare
from llava.eval.report.runs import read_runs
from llava.eval.report.table import csv_table, markdown_report, markdown_table


def read_csv(comparison):
    return list(csv.DictReader(io.StringIO(csv_table(comparison))))


@pytest.fixture
def three_runs(workshop):
    """Of eight questions full gets six right, the floor two, and ACCM five; ten times over."""
    return [
        workshop.result("full", [1, 1, 1, 1, 1, 1, 0, 0] * 10, "full", None),
        workshop.result("floor", [1, 0, 1, 0, 0, 0, 0, 0] * 10, "no image", None),
        workshop.result("accm", [1, 0, 1, 1, 0, 1, 0, 1] * 10),
    ]


def test_the_numbers_of_three_runs(three_runs):
    """ACCM has 5/6 of full's score, and goes 3 of 4 steps of the way."""
    comparison = compare(read_runs(three_runs))
    assert comparison.notes == []
    full, accm, floor = read_csv(comparison)
    assert [row["method"] for row in (full, accm, floor)] == ["full", "accm", "no image"]
    assert [row["visual_tokens"] for row in (full, accm, floor)] == ["576", "36", "0"]
    assert float(accm["mean_percent"]) == 62.5
    assert float(accm["main_percent_of_full"]) == pytest.approx(250 / 3)
    assert float(accm["mean_percent_of_full"]) == pytest.approx(250 / 3)
    assert float(accm["floor_to_full_percent"]) == 75
    assert float(accm["mean_percent_low"]) < 62.5 < float(accm["mean_percent_high"])
    for name in (
        "floor_to_full_percent",
        "floor_to_full_percent_low",
        "floor_to_full_percent_high",
    ):
        assert float(full[name]) == 100
        assert float(floor[name]) == 0


def test_limited_runs_are_marked(workshop):
    scores = [1, 0, 1]
    runs = [
        workshop.result("a", scores, "full", None, limit=3),
        workshop.result("b", scores, "accm", 36, limit=3, missing=["q2"]),
        workshop.result("c", scores, "full", None, benchmark="mme"),
    ]
    comparison = compare(read_runs(runs))
    assert [(row.title, row.marked_method) for row in comparison.rows] == [
        ("MME", "full"),
        ("POPE", "full (limited)"),
        ("POPE", "accm (limited) (lenient)"),
    ]
    assert [row.marked_method for row in comparison.mean_rows] == ["full (limited)"]
    assert [row["limited"] for row in read_csv(comparison)] == ["0", "1", "1", "1"]
    assert comparison.notes[0] == (
        "POPE (limited): only the first 3 questions were asked, and those that are scored together "
        "with one of them (--limit)."
    )


def test_markdown(three_runs):
    lines = markdown_table(compare(read_runs(three_runs))).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("| Benchmark | Model | Method | Tokens |")
    assert "| POPE | llava-v1.5-7b | full | 576 | F1 0.7500 | 75.0 [" in lines[2]
    assert lines[2].endswith("| 100.0 | 100.0 | 100.0 |")
    assert "| accm | 36 | F1 0.6250 | 62.5 [" in lines[3] and "| 75.0 [" in lines[3]
    assert len({line.count("|") for line in lines[:5]}) == 1


def test_markdown_escapes_what_would_break_the_table(workshop):
    settings = {"model_id": "a|b\n<i>", "method": "accm", "visual_token_num": 3}
    table = markdown_table(compare(read_runs([workshop.result("a", [1], settings=settings)])))
    assert "| a\\|b &lt;i> | accm |" in table


def test_the_report_says_what_the_columns_mean(three_runs):
    report = markdown_report(compare(read_runs(three_runs)))
    assert report.startswith("# Evaluation report\n")
    assert "bootstrap" in report


def test_without_full_and_floor_there_are_dashes_and_notes(workshop):
    comparison = compare(read_runs([workshop.result("a", [1, 0])]))
    assert comparison.notes == [
        "POPE, llava-v1.5-7b: there is no full-token run, so nothing is compared with it.",
        "POPE, llava-v1.5-7b: there is no run without an image, so there is no floor.",
    ]
    table = markdown_table(comparison)
    assert table.splitlines()[2].endswith("| - | - | - |")
    assert "- POPE, llava-v1.5-7b: there is no full-token run" in table
    assert read_csv(comparison)[0]["floor_to_full_percent"] == ""


def test_a_full_run_of_another_model_is_no_base(workshop):
    settings = {"model_id": "other", "method": "full", "num_patches": 576}
    paths = [workshop.result("a", [1, 0]), workshop.result("b", [1, 1], settings=settings)]
    accm, full = compare(read_runs(paths)).rows
    assert (accm.model, full.model) == ("llava-v1.5-7b", "other")
    assert accm.of_full is None and full.of_full.value == 1


def test_full_that_is_not_above_the_floor(workshop):
    paths = [
        workshop.result("full", [0, 0], "full"),
        workshop.result("floor", [0, 0], "no image"),
        workshop.result("accm", [1, 0]),
    ]
    comparison = compare(read_runs(paths))
    assert all(row.recovered is None and row.of_full is None for row in comparison.rows)
    assert [note.split(": ", 1)[1] for note in comparison.notes] == [
        "the full-token run scores nothing, so there is no per cent of it.",
        "the full-token run is not above the floor: no way to recover.",
    ]


def test_full_that_may_not_be_above_the_floor(workshop):
    paths = [
        workshop.result("full", [1, 0, 1], "full"),
        workshop.result("floor", [0, 1, 0], "no image"),
        workshop.result("accm", [1, 1, 0]),
    ]
    comparison = compare(read_runs(paths))
    assert "in some draws the full-token run is not above the floor" in comparison.notes[0]
    assert "100.0 [none, none]" in markdown_table(comparison)
    accm = read_csv(comparison)[1]
    assert accm["floor_to_full_percent"] and accm["floor_to_full_percent_low"] == ""


def test_the_mean_needs_all_benchmarks(workshop, three_runs):
    paths = three_runs + [
        workshop.result("m-full", [1, 1, 0, 0], "full", None, "mmvp"),
        workshop.result("m-floor", [0, 1, 0, 0], "no image", None, "mmvp"),
        workshop.result("m-accm", [1, 1, 0, 0], benchmark="mmvp"),
        workshop.result("m-prune", [1, 0, 0, 0], "prune", benchmark="mmvp"),
    ]
    comparison = compare(read_runs(paths))
    assert [row.method for row in comparison.mean_rows] == ["full", "accm", "no image"]
    assert comparison.notes[-1] == (
        "llava-v1.5-7b, prune, 36 tokens: not among the means, for it lacks POPE."
    )
    accm = comparison.mean_rows[1]
    assert accm.mean.value == (5 / 8 + 2 / 4) / 2
    assert accm.of_full_main == pytest.approx((5 / 6 + 1) / 2)
    assert accm.recovered.value == pytest.approx((3 / 4 + 1) / 2)
    assert accm.mean.low < accm.mean.value < accm.mean.high
    assert read_csv(comparison)[-1]["benchmark"] == "mean"


def test_benchmarks_are_drawn_independently(workshop):
    """Else the interval of their mean would be that of one of them."""
    scores = [1, 0] * 40
    paths = [workshop.result(name, scores, benchmark=name) for name in ("pope", "mmvp")]
    comparison = compare(read_runs(paths))
    mean, one = comparison.mean_rows[0].mean, comparison.rows[0].mean
    assert mean.draws.std() == pytest.approx(one.draws.std() / 2**0.5, rel=0.1)
