"""Numbers of others beside the measured ones."""

import json
from pathlib import Path

import pytest

from llava.errors import UserError
from llava.eval.report.__main__ import main
from llava.eval.report.references import read_references

PUBLISHED = Path(__file__).parents[3] / "scripts" / "published.json"
POPE = dict(benchmark="pope", model="llava-v1.5-7b", method="accm", tokens=36, source="a <paper>")


def write(path, *numbers):
    path.write_text(json.dumps({"numbers": numbers}))
    return path


@pytest.fixture
def references(tmp_path):
    """Of a run that is there, of a number that it has not, and of a run that is not there."""
    return write(
        tmp_path / "references.json",
        POPE | {"number": "average.f1", "value": 60.0, "times": 100},
        POPE | {"number": "recall", "value": 1},
        POPE | {"number": "average.f1", "value": 50, "tokens": 18},
    )


def test_the_report_has_both_numbers_and_their_difference(three_runs, references, tmp_path, capsys):
    accm = json.loads(three_runs[2].read_text())
    three_runs[2].write_text(json.dumps(accm | {"average": {"f1": 0.625}}))
    words = [*map(str, three_runs), "--output", str(tmp_path / "out")]
    assert main([*words, "--references", str(references)]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "a &lt;paper>" in line]
    start = "| POPE | llava-v1.5-7b | accm |"
    assert lines == [
        f"{start} 36 | average.f1 | 62.50 (+2.50) | 60.00 | a &lt;paper> |",
        f"{start} 36 | recall | - | 1.00 | a &lt;paper> |",
        f"{start} 18 | average.f1 | - | 50.00 | a &lt;paper> |",
    ]
    for kind in ("md", "html"):
        text = (tmp_path / "out" / f"report.{kind}").read_text()
        assert "Published and recorded numbers" in text and "62.50 (+2.50)" in text
        assert "1 of these 3 were run here" in text
    assert "<paper>" not in (tmp_path / "out" / "report.html").read_text()


def test_a_part_of_the_questions_is_not_set_beside_others(three_runs, references, tmp_path, capsys):
    for path in three_runs:
        made = json.loads(path.read_text())
        path.write_text(json.dumps(made | {"average": {"f1": 0.625}, "limit": 80}))
    words = [*map(str, three_runs), "--output", str(tmp_path / "out")]
    assert main([*words, "--references", str(references)]) == 0
    printed = capsys.readouterr().out
    assert "| accm | 36 | average.f1 | - | 60.00 |" in printed and "0 of these 3" in printed


def test_without_references_nothing_is_said_of_them(three_runs, tmp_path, capsys):
    assert main([*map(str, three_runs), "--output", str(tmp_path / "out")]) == 0
    assert "Published" not in capsys.readouterr().out
    assert "Published" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    "text, says",
    [
        ("{}", "no list under 'numbers'"),
        ('{"numbers": [3]}', "number 1: it needs texts"),
        (json.dumps({"numbers": [POPE | {"number": "x", "value": "high"}]}), "value and times"),
        (json.dumps({"numbers": [POPE | {"benchmark": "vqa", "number": "x"}]}), "known benchmark"),
        ("[", "not valid JSON"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, text, says):
    path = tmp_path / "references.json"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_references(path)


def test_the_numbers_that_come_along_can_be_read():
    references = read_references(PUBLISHED)
    recorded = {r.tokens: r.value for r in references if r.benchmark == "mmvp"}
    assert recorded.keys() == {288, 144, 72, 36, 18} and recorded[36] == pytest.approx(52 / 3)
