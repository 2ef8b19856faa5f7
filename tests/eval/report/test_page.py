import base64
import csv
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from llava.errors import UserError
from llava.eval.report import plot
from llava.eval.report.__main__ import main, write_report
from llava.eval.report.comparison import compare
from llava.eval.report.disagreements import choose_pairs, find_disagreements, read_benchmark
from llava.eval.report.plot import LARGE, accuracy_chart, method_styles
from llava.eval.report.runs import read_runs

SCRIPT = "<script>alert('x')</script>"


@pytest.fixture
def report(workshop, three_runs, captions, tmp_path):
    """The page of three runs, journals and pictures included."""
    workshop.journal("full", [f"full says {i}" for i in range(1, 9)], list(range(576)))
    texts = [f"accm says {i}" for i in range(1, 8)] + [SCRIPT]
    workshop.journal("accm", texts, [0, 1, 575], captions, tail='{"key": "q2", "rec')
    write_report(three_runs, tmp_path / "out", 12, workshop.questions(8))
    return (tmp_path / "out" / "report.html").read_text("utf-8")


class Checker(HTMLParser):
    """Collects what a browser would fetch or run, and complains about unbalanced tags."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.links, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        wanted = self.links if tag == "a" else self.loaded
        wanted += [value for name, value in attributes if name in ("src", "href", "srcset")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_fetches_nothing(report):
    checker = Checker()
    checker.feed(report)
    assert checker.open == []
    assert not any(link.startswith(("/", "#")) or ":" in link for link in checker.links)
    assert checker.loaded and all(url.startswith("data:image/jpeg") for url in checker.loaded)
    assert not checker.tags & {"script", "link", "iframe", "object", "base"}
    assert "http" not in report and "url(" not in report and "@import" not in report


def test_answers_are_escaped(report):
    assert SCRIPT not in report
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in report
    assert "a dog &lt;b&gt;runs&lt;/b&gt;" in report


def test_the_templates_come_with_an_installed_package():
    configuration = pytest.importorskip("setuptools.config.pyprojecttoml")
    read = configuration.read_configuration(Path(__file__).parents[3] / "pyproject.toml")
    patterns = read["tool"]["setuptools"]["package-data"]["llava.eval.report"]
    folder = Path(plot.__file__).parent
    installed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert installed == set((folder / "templates").iterdir()) and len(installed) > 3


def test_the_table_is_there(report):
    assert "<th>F1, %</th>" in report and "<td>62.5</td>" in report
    assert "<td>62.5<small>[" in report
    assert "<td>75.0<small>[" in report


def test_the_result_is_a_sentence(report):
    """ACCM has 5 of full's 6 right answers, and goes 3 of 4 steps of the way up."""
    said = "On POPE, with 36 of 576 tokens and captions the model reaches 83% of its score with all"
    said += " tokens."
    assert f'<p class="lead">{said}</p>' in report
    assert "On POPE, with 95% intervals: pruned, with captions 83.3% [" in report
    assert "of the way up from no image: 75.0% [" in report


def test_each_method_is_explained(report):
    lines = re.findall(r"<b>([^<]*)</b> ([^<]*)</span></li>", report)
    assert [name for name, _ in lines] == ["full", "accm", "no image"]
    assert all(len(text) > 30 for _, text in lines)


def test_a_phone_gets_a_chart_of_its_own(report):
    wide, narrow = re.findall(
        r'class="(wide|narrow)"><svg class="chart" viewBox="0 0 (\d+)', report
    )
    assert (wide[0], narrow[0]) == ("wide", "narrow") and int(narrow[1]) < 362 < int(wide[1])


def test_answers_and_scores_are_linked(workshop, three_runs, tmp_path):
    (tmp_path / "accm.jsonl").write_text("{}\n")
    write_report(three_runs, tmp_path / "deep" / "out put", 12)
    checker = Checker()
    checker.feed((tmp_path / "deep" / "out put" / "report.html").read_text("utf-8"))
    assert "../../accm.jsonl" in checker.links and "../../accm.json" in checker.links
    assert "../../full.jsonl" not in checker.links  # it is not there
    for link in checker.links:
        assert (tmp_path / "deep" / "out put" / link).is_file()


def test_what_is_known_of_the_runs_is_said(workshop, three_runs, tmp_path):
    """Two processes of 8 questions together: 1 s and 3 s, on two days and one machine."""
    for path in three_runs[2:]:
        result = json.loads(path.read_text())
        result["settings"] |= {"dtype": "float32", "device": "cpu", "seed": 42, "compile": False}
        result["settings"]["versions"] = {"torch": "9.9", "odd": ["x"]}
        path.write_text(json.dumps(result))
    folder = tmp_path / "accm.jsonl.run"
    folder.mkdir()
    for rank, (day, count, seconds) in enumerate((("2026-11-26", 2, 1.0), ("2026-11-25", 6, 3.0))):
        line = {"date": day, "machine": "a <fast> one", "questions": count, "seconds": seconds}
        text = json.dumps(line) + "\nno line\n" + json.dumps(line | {"questions": "two"}) + "\n"
        (folder / f"sessions-{rank}.log").write_text(text)
    write_report(three_runs, tmp_path / "out", 12)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "<td>2026-11-25 to 2026-11-26</td><td>0.500</td>" in page
    assert "Machine: a &lt;fast&gt; one (accm (36 tokens))" in page
    assert "Versions: torch 9.9 (accm (36 tokens))" in page
    assert "Settings: seed 42 (accm (36 tokens))" in page
    row = next(csv.DictReader((tmp_path / "out" / "report.csv").open()))
    assert (row["seconds_per_question"], row["date"], row["machine"]) == ("", "", "")
    rows = {row["method"]: row for row in csv.DictReader((tmp_path / "out" / "report.csv").open())}
    assert rows["accm"]["seconds_per_question"] == "0.5" and rows["accm"]["own_name"] == "F1, %"
    assert float(rows["accm"]["own_value"]) == 62.5
    assert rows["accm"]["result_file"] == str(three_runs[2])


def test_disagreements_show_the_question_the_answers_and_the_captions(report):
    """Full and ACCM differ on q2, q5 and q8."""
    assert re.findall(r'class="key">(q\d)', report) == ["q2", "q5", "q8"]
    assert "Only full (576 tokens) right: 2. Only accm (36 tokens) right: 1. Alike: 5" in report
    assert "<b>Is there a thing no. 2?</b><span>\nOne word &amp; no more.</span>" in report
    assert "full says 2" in report and "accm says 2" in report
    assert "full says 1<" not in report
    assert '<li class="chosen"><i>chosen 0.750</i>a cat sleeps</li>' in report
    assert "<li><i>0.500</i>an empty room</li>" in report
    assert "<details><summary>POPE" in report


def test_thumbnails_show_the_kept_patches(report):
    (picture, *_) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', report)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).astype(int)
    assert pixels.shape == (240, 240, 3)
    padding = np.array([122, 116, 104])  # a wide image is padded above and below
    assert abs(pixels[5, 5] - padding).max() < 12  # patch 0 is kept
    assert pixels[5, 35].max() < 60  # patch 3 is not
    assert pixels[120, 120].max() < 90  # the middle, orange, is not
    assert "kept by accm (36 tokens)" in report


def test_the_same_runs_give_the_same_page(report, workshop, three_runs, tmp_path):
    write_report(three_runs[::-1], tmp_path / "again", 12, workshop.questions(8))
    assert (tmp_path / "again" / "report.html").read_text("utf-8") == report


def test_without_data_and_journal_the_page_says_so(workshop, three_runs, tmp_path):
    def read(benchmark, data_dir):
        raise UserError(f"there is no {data_dir / 'coco'}")

    write_report(three_runs, tmp_path / "a" / "out", 12, read)
    page = (tmp_path / "a" / "out" / "report.html").read_text("utf-8")
    assert "Answers and captions of" in page and "there is no journal" in page
    assert "Pictures and questions of POPE are left out: there is no " in page
    assert page.count('class="case"') == 3
    assert "<img" not in page


def test_questions_come_from_the_benchmark_s_own_reader(monkeypatch):
    reader = SimpleNamespace(read_questions=lambda data_dir: [data_dir])
    monkeypatch.setitem(sys.modules, "llava.eval.benchmarks.pope", reader)
    assert read_benchmark("pope", Path("here")) == [Path("here")]


def test_runs_of_one_score_make_a_chart(workshop, tmp_path):
    paths = [workshop.result("a", [1, 1], "full", None), workshop.result("b", [1, 1])]
    write_report(paths, tmp_path / "out", 12)
    assert '<svg class="chart"' in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_broken_picture_is_left_out(workshop, three_runs, tmp_path):
    read = workshop.questions(8)
    (workshop.data_dir / "1.png").write_bytes(b"no picture")
    write_report(three_runs, tmp_path / "out", 1, read)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "A picture is left out" in page and "Is there a thing no. 2?" in page
    assert page.count('class="case"') == 1


def test_the_command_prints_the_table_and_the_paths(three_runs, tmp_path, capsys):
    assert main([*map(str, three_runs), "--output", str(tmp_path), "--disagreements", "0"]) == 0
    out = capsys.readouterr().out
    assert " ".join(out.split()).startswith("| Model | Method | Tokens |")
    for name in ("report.md", "report.csv", "report.html"):
        assert str(tmp_path / name) in out
        assert (tmp_path / name).stat().st_size > 0
    assert not list(tmp_path.glob("*.partial"))


def test_a_run_without_settings_makes_a_page(workshop, tmp_path):
    paths = [workshop.result(name, [1, 0], settings=None) for name in ("a", "b")]
    assert main([*map(str, paths), "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "unknown model" in page and '<svg class="chart"' not in page


def test_pairs(workshop):
    def pairs(*runs):
        paths = [workshop.result(f"{m}{k}", [1, 0], m, k) for m, k in runs]
        chosen = choose_pairs(read_runs(paths))
        return [(first.label, second.label) for first, second in chosen]

    full, floor = ("full", None), ("no image", None)
    assert pairs(full, floor, ("accm", 36), ("prune", 36), ("prune", 72)) == [
        ("full (576 tokens)", "accm (36 tokens)"),
        ("prune (36 tokens)", "accm (36 tokens)"),
    ]
    assert pairs(full, floor, ("prune", 36)) == [("full (576 tokens)", "prune (36 tokens)")]
    assert pairs(floor, ("accm", 36)) == [("accm (36 tokens)", "no image")]
    assert pairs(full) == []


def test_graded_scores_come_widest_first(workshop):
    paths = [
        workshop.result("a", [0.1, 0.9, 2.0, 0.3], "full", benchmark="flickr"),
        workshop.result("b", [0.7, 0.8, 0.5, 0.3], benchmark="flickr"),
    ]
    (found,), _ = find_disagreements(read_runs(paths), 12, workshop.questions(4))
    assert [case.key for case in found.cases] == ["q3", "q1"]
    assert (found.better_first, found.better_second) == (1, 1)


def test_the_chart_places_scores_and_tokens(workshop):
    scores = {"full": [1] * 10, "no image": [0] * 10}
    paths = [workshop.result(m.split()[0], s, m, None) for m, s in scores.items()]
    for tokens, right in ((18, 4), (36, 6), (72, 8)):
        paths.append(workshop.result(f"t{tokens}", [1] * right + [0] * (10 - right), tokens=tokens))
    rows = compare(read_runs(paths)).rows
    svg = ElementTree.fromstring(accuracy_chart("A & B", rows, method_styles(rows), LARGE))
    xs, ys = zip(*((float(c.get("cx")), float(c.get("cy"))) for c in svg.iter("circle")))
    # The last circle is the label's.
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)  # doubling is a step of one width
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    full, floor = (
        float(re.search(r"M\d+ ([\d.]+)H", svg.find(f"g[@class='{name}']/path").get("d"))[1])
        for name in ("full", "floor")
    )
    assert (floor - ys[0]) / (floor - full) == pytest.approx(0.4, abs=0.01)
    texts = [text.text for text in svg.iter("text")]
    assert {
        "18",
        "36",
        "72",
        "visual tokens (log scale)",
        "% of the score with all tokens",
        "A & B",
    } <= set(texts)


def test_graded_scores_and_models_side_by_side_make_a_page(workshop, tmp_path):
    """Of Flickr30k two questions are 0.5 or more apart; of POPE two models differ on q1."""
    paths = [
        workshop.result("a", [0.1, 0.9, 2.0, 0.3], "full", benchmark="flickr"),
        workshop.result("b", [0.7, 0.8, 0.5, 0.3], benchmark="flickr"),
    ]
    for model, scores in (("one", [1, 0]), ("two", [0, 0])):
        settings = {"model_id": model, "method": "accm", "visual_token_num": 36}
        paths.append(workshop.result(model, scores, settings=settings))
    write_report(paths, tmp_path / "out", 12, workshop.questions(4))
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert (
        "Higher by 0.5 or more: full (576 tokens) 1 times, accm (36 tokens) 1 times, of 4. The "
        "widest gaps come first."
    ) in page
    assert (
        '<div class="side "><h4>accm (36 tokens) &middot; <span class="verdict">scores 0.70' in page
    )
    assert "<summary>one, accm (36 tokens) against two, accm (36 tokens)<span>1 to 0<" in page
    assert (
        "Only one, accm (36 tokens) right: 1. Only two, accm (36 tokens) right: 0. Alike: 1 of 2."
    ) in page
    titles = ["one", "two", "llava-v1.5-7b", "POPE", "POPE", "Flickr30k"]  # charts, then tables
    assert re.findall(r"<h3>([^<]*)<", page) == titles
    assert "<td>-<small></small></td>" in page  # without a full run there is no share of it
    write_report(paths[:1], tmp_path / "alone", 12, workshop.questions(4))
    alone = (tmp_path / "alone" / "report.html").read_text("utf-8")
    assert "No benchmark has two runs to compare." in alone


def test_labels_in_the_chart_do_not_touch(workshop):
    paths = [
        workshop.result("a", [1, 0] * 5, "full", None),
        workshop.result("b", [1, 0] * 5, "accm", 36),
        workshop.result("c", [1, 0] * 5, "prune", 36),
    ]
    rows = compare(read_runs(paths)).rows
    svg = ElementTree.fromstring(accuracy_chart("POPE", rows, method_styles(rows), LARGE))
    heights = sorted(float(t.get("y")) for t in svg.iter("text") if "label" in t.get("class"))
    assert len(heights) == 3 and np.diff(heights).min() >= 14


def test_a_full_run_that_may_as_well_be_all_wrong(workshop, tmp_path):
    """Draws without a right answer have no share of full: its interval is without end."""
    for benchmark in ("pope", "mmvp"):
        workshop.result(f"{benchmark}-full", [0, 0, 1, 0], "full", None, benchmark)
        workshop.result(f"{benchmark}-accm", [0, 1, 0, 0], "accm", 36, benchmark)
    write_report(sorted(workshop.folder.glob("*.json")), tmp_path / "out", 12)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.count('<svg class="chart') == 2  # one for each benchmark, none of the means
    drawn = " ".join(re.findall(r"<svg.*?</svg>", page, re.S))
    assert not re.search(r"\b(inf|nan)\b", drawn)
