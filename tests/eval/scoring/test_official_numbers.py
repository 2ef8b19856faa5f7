"""The four benchmarks with LLaVA's common files, against the fixtures and the official numbers."""

import json
import shutil

import pytest

from llava.errors import UserError
from llava.eval.benchmarks import gqa as gqa_data
from llava.eval.benchmarks import mme as mme_data
from llava.eval.benchmarks import pope as pope_data
from llava.eval.benchmarks import seed as seed_data
from llava.eval.scoring import gqa, mme, pope, seed

FOLDERS = {"mme": "mme", "pope": "pope", "seed": "seed_bench", "gqa": "gqa"}
DATA = {"mme": mme_data, "pope": pope_data, "seed": seed_data, "gqa": gqa_data}
SCORING = {"mme": mme, "pope": pope, "seed": seed, "gqa": gqa}
LLAVA_FILES = {
    "mme": "llava_mme.jsonl",
    "pope": "llava_pope_test.jsonl",
    "seed": "llava-seed-bench.jsonl",
    "gqa": "llava_gqa_testdev_balanced.jsonl",
}
BENCHMARKS = pytest.mark.parametrize("name", list(FOLDERS))


@pytest.fixture
def folder(shared_benchmarks, name):
    return shared_benchmarks / "fixtures" / FOLDERS[name]


def read_answers(folder, file):
    lines = (folder / "answers" / file).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def expected(folder, file):
    return json.loads((folder / "expected.json").read_text("utf-8"))["answers"][file]


def assert_equal(ours, official):
    """Every official number is among ours, under the same name."""
    for key, value in official.items():
        if isinstance(value, dict):
            assert_equal(ours[key], value)
        elif key != "printed":
            assert ours[key] == pytest.approx(value, abs=1e-9), key


@BENCHMARKS
@pytest.mark.parametrize("file", ["plain.jsonl", "odd.jsonl"])
def test_numbers_of_the_official_scorer(folder, name, file):
    official = expected(folder, file)
    scores = SCORING[name].score(folder, read_answers(folder, file))
    assert_equal(scores, official["default"] if name == "gqa" else official)
    assert scores["missing"] == []
    json.dumps(scores)


@BENCHMARKS
def test_correctness_is_given_per_question(folder, name):
    scores = SCORING[name].score(folder, read_answers(folder, "odd.jsonl"))
    keys = {question.key for question in DATA[name].read_questions(folder)}
    assert set(scores["questions"].values()) == {0, 1}
    if name == "gqa":
        mean = 100 * sum(scores["questions"].values()) / len(scores["questions"])
        assert mean == pytest.approx(scores["accuracy"], abs=1e-9)
        assert set(scores["questions"]) < keys and len(keys) == len(scores["questions"]) + 5
    else:
        assert set(scores["questions"]) == keys


@BENCHMARKS
def test_built_questions_are_those_of_llava(folder, name, tmp_path):
    of_llava = DATA[name].read_questions(folder)
    linked = tmp_path / "data"
    linked.mkdir()
    for path in folder.iterdir():
        if path.name != LLAVA_FILES[name]:
            (linked / path.name).symlink_to(path)
    built = DATA[name].read_questions(linked)
    given = DATA[name].read_questions(linked, folder / LLAVA_FILES[name])
    for some in (built, given):
        records = {q.key: (fields(q), q.image.relative_to(linked)) for q in some}
        assert records == {q.key: (fields(q), q.image.relative_to(folder)) for q in of_llava}
    if name in ("pope", "seed"):  # elsewhere the order of LLaVA's file follows from nothing
        assert [q.key for q in built] == [q.key for q in of_llava]
    assert len({q.key for q in built}) == len(built)
    assert all(q.image.is_file() for q in built)


def fields(question):
    kind = type(question.question_id)
    return kind, question.question_id, question.prompt, question.tower_question


@BENCHMARKS
def test_records_are_those_of_llava(folder, name):
    answers = read_answers(folder, "plain.jsonl")
    for question, record in zip(DATA[name].read_questions(folder), answers, strict=True):
        given = (record["text"], record["answer_id"], record["model_id"])
        written = DATA[name].answer_record(question, *given)
        assert json.dumps(written) == json.dumps(record)
        assert question.max_new_tokens == 128


@BENCHMARKS
def test_missing_answers_are_refused_or_wrong(folder, name):
    answers = read_answers(folder, "missing_question.jsonl")
    with pytest.raises(UserError, match="questions have no answer .*question_id .*--allow-missing"):
        SCORING[name].score(folder, answers)
    scores = SCORING[name].score(folder, answers, allow_missing=True)
    whole = SCORING[name].score(folder, read_answers(folder, "plain.jsonl"))
    assert scores["missing"]
    keys = {question.key for question in DATA[name].read_questions(folder)}
    left_out = {str(question_id) for question_id in scores["missing"]}
    assert left_out <= keys
    assert scores["questions"] == whole["questions"] | dict.fromkeys(left_out, 0)


@BENCHMARKS
def test_the_last_of_several_answers_counts(folder, name):
    answers = read_answers(folder, "plain.jsonl")
    before = [record | {"text": "Other"} for record in answers[:9]]
    ours = SCORING[name].score(folder, before + answers)
    assert ours == SCORING[name].score(folder, answers)


@BENCHMARKS
def test_order_of_the_answers_is_of_no_account(folder, name):
    answers = read_answers(folder, "odd.jsonl")
    assert SCORING[name].score(folder, answers[::-1]) == SCORING[name].score(folder, answers)


@BENCHMARKS
def test_answers_of_another_benchmark_are_refused(folder, name):
    other = folder.parent / FOLDERS["seed" if name == "pope" else "pope"]
    with pytest.raises(UserError, match="to no question of this benchmark .*of another one"):
        SCORING[name].score(folder, read_answers(other, "plain.jsonl"), allow_missing=True)


@BENCHMARKS
def test_no_answers_at_all_are_refused(folder, name):
    with pytest.raises(UserError, match="have no answer"):
        SCORING[name].score(folder, [], allow_missing=True)


@BENCHMARKS
@pytest.mark.parametrize("change", [{"text": None}, {"question_id": None}, {"question_id": [1]}])
def test_a_record_that_is_no_answer(folder, name, change):
    answers = read_answers(folder, "plain.jsonl")
    answers[6] = answers[6] | change
    with pytest.raises(UserError, match=f"line 7 of the answers file has no {next(iter(change))}"):
        SCORING[name].score(folder, answers)


@BENCHMARKS
def test_an_empty_folder_is_told_what_belongs_there(name, tmp_path):
    with pytest.raises(UserError, match="folder holds .*; get it from https://"):
        DATA[name].read_questions(tmp_path)
    with pytest.raises(UserError, match="folder holds .*; get it from https://"):
        SCORING[name].score(tmp_path, [{"question_id": 1, "prompt": "", "text": ""}])
    with pytest.raises(UserError, match="no file .*gone.jsonl"):
        DATA[name].read_questions(tmp_path, tmp_path / "gone.jsonl")


@BENCHMARKS
def test_a_byte_order_mark_and_crlf_are_read(folder, name, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("answers", "*.png", "*.jpg"))
    texts = [path for path in copy.rglob("*") if path.suffix in (".txt", ".json", ".jsonl")]
    assert texts
    for path in texts:
        path.chmod(0o644)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    answers = read_answers(folder, "plain.jsonl")
    assert SCORING[name].score(copy, answers) == SCORING[name].score(folder, answers)
    keys = [question.key for question in DATA[name].read_questions(folder)]
    assert [question.key for question in DATA[name].read_questions(copy)] == keys
