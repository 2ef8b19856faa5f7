"""Runs that are limited to the first questions: which these are, and how they are scored."""

import dataclasses
import json

import pytest

from llava.errors import UserError
from llava.eval import answer, score
from llava.eval.benchmarks.question import Question
from llava.eval.benchmarks.registry import (
    BENCHMARKS,
    data_folder,
    first_questions,
    limit_of,
    main_number,
    reader,
    scorer,
)
from llava.eval.journal import Journal
from llava.eval.scoring.matching import keep_asked
from llava.mini.benchmarks import write_benchmarks

SIZES = {"mme": 1, "mmbench": 4, "pope": 2, "mmvp": 3, "seed": 2, "gqa": 1, "flickr": 4}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("limited")
    write_benchmarks(root, 0, "test", SIZES)
    return root


def question(key, question_id=None, pair=None):
    return Question(key, question_id or key, b"", "Is it?", "Is it?", 4, {"pair": pair})


@pytest.mark.parametrize(
    "benchmark, questions, limit, keys",
    [
        ("pope", [question(k) for k in "abcd"], 3, "abc"),
        ("pope", [question(k) for k in "abcd"], 9, "abcd"),
        # Pairs, wherever the second question stands.
        ("mmvp", [question(k, pair=p) for k, p in zip("abcdef", (0, 0, 1, 1, 2, 2))], 3, "abcd"),
        ("mmvp", [question(k, pair=p) for k, p in zip("abcdef", (0, 1, 2, 0, 1, 2))], 2, "abde"),
        # Both questions of an image.
        ("mme", [question(k, i) for k, i in zip("abcd", ("x", "y", "x", "y"))], 1, "ac"),
        # Rotations of a question, and one whose question is not there.
        (
            "mmbench",
            [question(k, i) for k, i in zip("abcde", (7, 8, 1_000_007, 1_000_008, 3_000_007))],
            1,
            "ace",
        ),
    ],
)
def test_the_first_questions_are_never_torn_apart(benchmark, questions, limit, keys):
    assert "".join(q.key for q in first_questions(benchmark, questions, limit)) == keys


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_a_number_of_questions(data_root, tmp_path, capsys, limit):
    with pytest.raises(UserError, match=f"--limit is {limit}: give a number"):
        first_questions("pope", [question("a")], limit)
    path = tmp_path / "a.jsonl"
    flags = ["--data-root", str(data_root), "--answers-file", str(path), "--model-path", "nowhere"]
    assert answer.main(["pope", *flags, "--limit", str(limit)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --limit is {limit}: ") and len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", ["10", 0, -3, True, 2.0, [1]])
def test_settings_with_something_that_is_no_limit(tmp_path, limit):
    with pytest.raises(UserError, match="is no number of questions"):
        limit_of({"limit": limit}, tmp_path)


def test_runs_without_a_limit(tmp_path):
    assert limit_of(None, tmp_path) is limit_of({}, tmp_path) is None
    assert limit_of({"limit": None}, tmp_path) is None and limit_of({"limit": 3}, tmp_path) == 3


def test_what_has_no_label_cannot_be_scored():
    with pytest.raises(UserError, match="none of the 1 questions that were asked has a label"):
        keep_asked(["b"], {"a"}, str)
    assert keep_asked([], None, str) == []


def answers_to(benchmark, questions):
    """Half of them "yes" or "A", and the others something else."""
    texts = ("A" if benchmark in ("mmbench", "mmvp", "seed") else "yes", "no")
    record = reader(benchmark).answer_record
    return [record(q, texts[n % 2], "id", "mini") for n, q in enumerate(questions)]


def score_of(benchmark):
    """Scoring; of Flickr30k the questions' scores, as Java's METEOR takes seconds."""
    if benchmark != "flickr":
        return scorer(benchmark).score
    return lambda *words: dataclasses.asdict(scorer("flickr").match_answers(*words))


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_part_is_scored_as_the_whole_is(data_root, benchmark):
    folder = data_folder(benchmark, None, str(data_root))
    questions = reader(benchmark).read_questions(folder)
    records = answers_to(benchmark, questions)
    part = first_questions(benchmark, questions, 3)
    keys = {q.key for q in part}
    assert 3 <= len(part) < len(questions)
    every = score_of(benchmark)(folder, records)
    assert score_of(benchmark)(folder, records, False, {q.key for q in questions}) == every
    given = answers_to(benchmark, part)
    limited = score_of(benchmark)(folder, given, False, keys)
    with pytest.raises(UserError, match="have no answer"):
        score_of(benchmark)(folder, given[:-1], False, keys)
    if benchmark == "flickr":
        place = [q.key for q in questions].index
        assert limited["ids"] == {k: i for k, i in every["ids"].items() if k in keys}
        assert limited["references"] == [every["references"][place(q.key)] for q in part]
        assert limited["matched"]["missing"] == [] and limited["unasked"] == every["unasked"]
        return
    assert limited["questions"] == {k: v for k, v in every["questions"].items() if k in keys}
    assert limited["missing"] == [] and limited.get("unasked") == every.get("unasked")
    assert main_number(benchmark, limited)["value"] is not None
    mean = sum(limited["questions"].values()) / len(limited["questions"])
    if benchmark in ("seed", "gqa"):
        assert main_number(benchmark, limited)["value"] == pytest.approx(100 * mean)
    assert scorer(benchmark).headline(limited)


def test_mme_sums_over_the_tasks_that_were_asked(data_root):
    folder = data_folder("mme", None, str(data_root))
    questions = first_questions("mme", reader("mme").read_questions(folder), 1)
    labels = {item.key: item.answer for item in reader("mme").read_labels(folder)}
    record = reader("mme").answer_record
    given = [record(q, labels[q.key], "id", "mini") for q in questions]
    scores = scorer("mme").score(folder, given, False, {q.key for q in questions})
    assert (scores["perception"], scores["cognition"], scores["total"]) == (200, 0, 200)
    assert list(scores["tasks"]) == ["existence"]
    assert "perception 200.00 of 200, cognition 0.00 of 0" in scorer("mme").headline(scores)


@pytest.fixture
def limited(data_root, tmp_path):
    """The answers file of a run over the first three questions of MMVP, and so over two pairs."""
    questions = reader("mmvp").read_questions(data_folder("mmvp", None, str(data_root)))
    path = tmp_path / "answers.jsonl"
    records = answers_to("mmvp", questions[:4])
    settings = {"model_id": "m", "method": "accm", "visual_token_num": 9, "limit": 3}
    with Journal(path, settings) as journal:
        for n, record in enumerate(records):
            journal.append({"key": str(n), "record": record})
        journal.publish(records)
    return path


def test_scores_say_that_they_are_limited(data_root, limited, tmp_path, capsys):
    flags = ["--data-root", str(data_root), "--answers-file", str(limited)]
    result = tmp_path / "scores.json"
    assert score.main(["mmvp", *flags, "--json", str(result)]) == 0
    made = json.loads(result.read_text())
    assert (made["limit"], made["total"], made["allow_missing"]) == (3, 4, False)
    assert "limited: 4 of 6 questions were asked (--limit 3)" in capsys.readouterr().out
    limited.write_text("".join(limited.read_text().splitlines(keepends=True)[:3]))
    assert score.main(["mmvp", *flags]) == 2  # one of the four is missing now
    assert "1 of 4 questions have no answer" in capsys.readouterr().err
    assert score.main(["mmvp", *flags, "--allow-missing"]) == 0
    said = capsys.readouterr().out
    assert "limited: 4 of 6" in said and "lenient: 1 questions without an answer" in said


def test_a_limited_run_is_nothing_for_a_server(data_root, limited, tmp_path, capsys):
    flags = ["--data-root", str(data_root), "--answers-file", str(limited)]
    upload = tmp_path / "x.xlsx"
    assert score.main(["mmbench", *flags, "--upload", str(upload)]) == 2
    said = capsys.readouterr().err
    assert "servers take whole runs: leave --upload out" in said and not upload.exists()


@pytest.mark.parametrize("other", [{}, {"limit": None}, {"limit": 4}])
def test_another_limit_does_not_continue_a_file(limited, other):
    settings = {"model_id": "m", "method": "accm", "visual_token_num": 9} | other
    with pytest.raises(UserError, match=f"limit'? was 3 and is {other.get('limit')}"):
        Journal(limited, settings)


def test_older_runs_were_asked_all(tmp_path):
    with Journal(tmp_path / "a.jsonl", {"seed": 1}) as journal:
        journal.append({"key": "1", "record": {"text": "yes"}})
    Journal(tmp_path / "a.jsonl", {"seed": 1, "limit": None}).close()
    with pytest.raises(UserError, match="limit was None and is 3"):
        Journal(tmp_path / "a.jsonl", {"seed": 1, "limit": 3})
