import csv
import io

import pytest

from llava.eval.report.comparison import compare
from llava.eval.report.methods import result_sentence
from llava.eval.report.runs import BENCHMARKS, read_runs
from llava.eval.report.table import MOST_LINES, csv_table, markdown_report, terminal_table


def read_csv(comparison):
    return list(csv.DictReader(io.StringIO(csv_table(comparison))))


def straight(lines):
    """Lines without the blanks that pad them."""
    return [" ".join(line.split()) for line in lines]


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


def test_the_terminal_s_table(three_runs):
    printed = terminal_table(compare(read_runs(three_runs))).splitlines()
    assert len({len(line) for line in printed[:5]}) == 1  # the columns stand straight
    lines = straight(printed)
    assert lines[0] == "| Model | Method | Tokens | Of full, % | Floor to full, % | POPE F1, % |"
    assert lines[2] == "| llava-v1.5-7b | full | 576 | 100.0 | 100.0 | 75.0 |"
    assert "| accm | 36 | 83.3 [" in lines[3] and "| 75.0 [" in lines[3]
    assert lines[3].endswith("| 62.5 |")
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert lines[5:] == [
        "",
        "On POPE, with 36 of 576 tokens and captions the model reaches 83% of its score with all "
        "tokens.",
    ]


def test_a_terminal_is_not_flooded(workshop):
    names = list(BENCHMARKS)
    paths = [workshop.result(f"{b}-full", [1, 0, 1], "full", None, b) for b in names]
    budgets = range(1, 40)
    paths += [workshop.result(f"{b}-{k}", [1, 0, 0], "accm", k, b) for b in names for k in budgets]
    lines = terminal_table(compare(read_runs(paths))).splitlines()
    assert sum(line.startswith("|") for line in lines) == MOST_LINES == 20
    assert "22 more rows: report.md (--report)" in lines
    assert lines[-1].startswith("With 1 of 576 tokens and captions the model reaches 50% of")


def test_each_benchmark_has_its_usual_scale(workshop):
    """MME is a sum of points, CIDEr a hundred times a fraction, the others are per cent."""
    values = {"mme": 2537.5, "mmbench": 0.8444, "pope": 0.98869, "mmvp": 98.0}
    values |= {"seed": 78.6458, "gqa": 92.992, "flickr": 4.90686}
    paths = []
    for benchmark, value in values.items():
        number = {"name": "any", "value": value}
        for method, tokens in (("full", None), ("accm", 36)):
            name = f"{benchmark}-{method}"
            scores = [1, 1, 0, 1] if method == "full" else [1, 0, 0, 1]
            path = workshop.result(name, scores, method, tokens, benchmark, main_number=number)
            paths.append(path)
    comparison = compare(read_runs(paths))
    heads, _, full, _ = straight(terminal_table(comparison).splitlines()[:4])
    assert full.split(" | ")[5:] == ["2537.5", "84.4", "98.9", "98.0", "78.6", "93.0", "490.7 |"]
    assert heads.split(" | ")[3] == "Mean of full, %" and heads.endswith("| CIDEr x 100 |")
    assert {row.mean for row in comparison.mean_rows} == {None}
    assert comparison.mean_rows[1].of_full.value == pytest.approx(2 / 3)
    rows = {row["benchmark"]: row for row in read_csv(comparison)}
    assert rows["mean"]["mean_percent"] == "" and rows["mean"]["own_value"] == ""
    report = markdown_report(comparison, read_runs(paths))
    assert "| accm | 36 | 490.7 | 50.0 [" in report and "| Mean CIDEr x 100 |" in report


def test_markdown_escapes_what_would_break_the_table(workshop):
    settings = {"model_id": "a|b\n<i>", "method": "accm", "visual_token_num": 3}
    table = terminal_table(compare(read_runs([workshop.result("a", [1], settings=settings)])))
    assert "| a\\|b &lt;i> | accm " in table


def test_the_report_says_what_the_columns_mean(three_runs):
    runs = read_runs(three_runs)
    report = markdown_report(compare(runs), runs)
    assert report.startswith("# Evaluation report\n\n**On POPE, with 36 of 576 tokens and")
    assert "- accm: pruned, with captions: the tokens" in report
    assert "bootstrap" in report


def test_the_sentence_says_that_scores_are_lenient(workshop):
    paths = [
        workshop.result("full", [1, 1, 1, 1], "full", None),
        workshop.result("prune", [1, 0, 0, 0], "prune", missing=["q2"]),
        workshop.result("accm", [1, 1, 1, 0]),
        workshop.result("more", [1, 1, 1, 1], tokens=72),
    ]
    assert result_sentence(compare(read_runs(paths))) == (
        "On POPE, with 36 of 576 tokens the model reaches 25% of its score with all tokens; with "
        "captions 75% (lenient)"
    )
    assert result_sentence(compare(read_runs(paths[1:]))) == ""


def test_without_full_and_floor_there_are_dashes_and_notes(workshop):
    comparison = compare(read_runs([workshop.result("a", [1, 0])]))
    assert comparison.notes == [
        "POPE, llava-v1.5-7b: there is no full-token run, so nothing is compared with it.",
        "POPE, llava-v1.5-7b: there is no run without an image, so there is no floor.",
    ]
    table = terminal_table(comparison)
    assert straight(table.splitlines())[2].endswith("| 36 | - | - | 50.0 |")
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
    assert "100.0 [none, none]" in terminal_table(comparison)
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
    assert accm.mean is None  # scores of several benchmarks have no unit in common
    assert accm.of_full_main == pytest.approx((5 / 6 + 1) / 2)
    assert accm.recovered.value == pytest.approx((3 / 4 + 1) / 2)
    assert accm.of_full.value == pytest.approx((5 / 6 + 1) / 2)
    assert accm.of_full.low < accm.of_full.value < accm.of_full.high
    assert read_csv(comparison)[-1]["benchmark"] == "mean"


def test_benchmarks_are_drawn_independently(workshop):
    """Else the interval of their mean would be that of one of them."""
    scores = {"full": ([1] * 80, None), "accm": ([1, 0] * 40, 36)}
    paths = [
        workshop.result(f"{name}-{method}", values, method, tokens, name)
        for name in ("pope", "mmvp")
        for method, (values, tokens) in scores.items()
    ]
    comparison = compare(read_runs(paths))
    mean, one = comparison.mean_rows[1].of_full, comparison.rows[1].of_full
    assert mean.draws.std() == pytest.approx(one.draws.std() / 2**0.5, rel=0.1)
