"""Journals: what is damaged is seen, named and asked again; what is older is read."""

from __future__ import annotations

import json
import warnings

import pytest

from llava.errors import UserError
from llava.eval.journal import Journal, read_settings
from llava.eval.outcomes import read_outcomes, seal

ANSWERS = {
    "1": {"question_id": 1, "text": "yes", "metadata": {}},
    "2 caf\u00e9": {"question_id": 2, "answer": "a \u2603", "metadata": {}},
}
TRACE = {"kept_idx": [1, 20], "selector_scores": [0.25, 0.75], "captions": ["a", "b"]}
LINES = [
    *({"key": key, "record": record, "trace": TRACE} for key, record in ANSWERS.items()),
    {"key": "3", "error": "there is no image"},
]


@pytest.fixture
def path(tmp_path):
    """An answers file with a journal of two answers and an error."""
    with Journal(tmp_path / "a.jsonl", {"seed": 1}) as journal:
        for line in LINES:
            journal.append(line)
    return tmp_path / "a.jsonl"


def journal_of(path):
    return path.with_name(path.name + ".run") / "answers-0.jsonl"


@pytest.mark.parametrize("flip", [0x01, 0x02, 0x10, 0x20, 0x80])
def test_no_flipped_byte_changes_an_answer(path, flip):
    """What is asked again is answered as before, and the file is that of an undisturbed run."""
    journal_file = journal_of(path)
    whole = journal_file.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= flip
        journal_file.write_bytes(damaged)
        with Journal(path, {"seed": 1}) as journal:
            found = journal.outcomes()
            answered = {key for key, outcome in found.items() if "record" in outcome}
            assert answered <= set(ANSWERS), place
            assert all(found[key]["record"] == ANSWERS[key] for key in answered), place
            assert all(found[key]["trace"] == TRACE for key in answered), place
            # The last line may have lost its end; any other is named.
            assert journal.damage or len(found) == 3 or place >= whole.rfind(b"\n", 0, -1)
            for key in set(ANSWERS) - answered:
                journal.append({"key": key, "record": ANSWERS[key], "trace": TRACE})
            outcomes = journal.outcomes()
            assert {key: outcomes[key]["record"] for key in ANSWERS} == ANSWERS, place


def test_a_damaged_line_is_named(path):
    journal_file = journal_of(path)
    journal_file.write_text(journal_file.read_text().replace('"yes"', '"yet"'))
    with Journal(path, {"seed": 1}) as journal:
        assert set(journal.outcomes()) == {"2 caf\u00e9", "3"}
        (said,) = journal.damage
    assert said == f"line 1 of {journal_file} is damaged (its checksum is another)"


@pytest.mark.parametrize(
    "line",
    [
        {"key": "1", "record": {}},
        {"key": "1", "record": {"text": None}},
        {"key": "1", "record": {}, "error": "none"},
        {"key": "1", "error": None},
        {"key": 1, "record": {"text": "yes"}},
        {"key": "1", "record": {"text": "yes"}, "checksun": "0123456789abcdef"},
        {"key": "1", "record": {"text": "yes"}, "checksum": 7},
        {},
        [],
    ],
)
def test_what_is_no_outcome_is_damage(tmp_path, line):
    (tmp_path / "lines").write_text(json.dumps(line) + "\n")
    (said,) = read_outcomes(tmp_path / "lines")
    assert isinstance(said, str) and "line 1 of" in said


def test_lines_of_older_versions_have_no_checksum(tmp_path):
    (tmp_path / "lines").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    assert list(read_outcomes(tmp_path / "lines")) == LINES


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), "\udce9"])
def test_what_could_not_be_read_is_not_written(tmp_path, value):
    with Journal(tmp_path / "a.jsonl", {}) as journal, pytest.raises(ValueError):
        journal.append({"key": "1", "record": {"text": "yes"}, "trace": {"scores": [value]}})
    assert journal_of(tmp_path / "a.jsonl").read_bytes() == b""


def test_any_bytes_are_read_as_a_journal(fuzz, tmp_path):
    def read(content: bytes) -> None:
        (tmp_path / "lines").write_bytes(content)
        for outcome in read_outcomes(tmp_path / "lines"):
            if isinstance(outcome, str):
                raise UserError(outcome)
            seal(outcome)  # what was read can be written

    sealed = "".join(seal(line) + "\n" for line in LINES)
    fuzz(read, [sealed.encode(), "".join(json.dumps(line) + "\n" for line in LINES).encode()])


def test_any_bytes_are_read_as_settings(fuzz, path):
    settings = {"seed": 1, "dtype": "float32", "checkpoints": {"model": "0123456789abcdef"}}
    place = path.with_name(path.name + ".run") / "settings.json"

    def read(content: bytes) -> None:
        place.write_bytes(content)
        read_settings(path)
        Journal(path, settings).close()

    fuzz(read, [json.dumps(settings).encode()])


@pytest.mark.parametrize("content", ["{", "[]", '{"seed": NaN}', None])
def test_lost_settings_get_advice_that_fits(path, content):
    place = path.with_name(path.name + ".run") / "settings.json"
    if content is None:
        place.unlink()
    else:
        place.write_text(content)
    with pytest.raises(UserError) as error:
        Journal(path, {"seed": 1}, elsewhere="name another --output-dir")
    said = str(error.value)
    assert "settings.json" in said and "name another --output-dir, or delete" in said
    assert "fetch" not in said and "--answers-file" not in said
    if content is not None:
        with pytest.raises(UserError, match="delete it, and how the answers were made"):
            read_settings(path)


def test_a_part_that_is_not_read_any_more_decides_nothing(tmp_path):
    """Runs without an image had loaded the caption model."""
    before = {"method": "no image", "checkpoints": {"model": "a", "gpt2": "b"}}
    with Journal(tmp_path / "a.jsonl", before) as journal:
        journal.append(LINES[0])
    Journal(tmp_path / "a.jsonl", before | {"checkpoints": {"model": "a"}}).close()
    with pytest.raises(UserError, match="checkpoints.model was 'a' and is 'c'"):
        Journal(tmp_path / "a.jsonl", before | {"checkpoints": {"model": "c"}})


@pytest.mark.parametrize("before", [{}, {"cpu_products": "plain"}])
def test_in_float32_a_run_goes_on_with_other_products(tmp_path, before):
    """With one warning; a run without the record is older than it, and plain."""
    settings = {"dtype": "float32"}
    with Journal(tmp_path / "a.jsonl", settings | before) as journal:
        journal.append({"key": "1", "record": {}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Journal(tmp_path / "a.jsonl", settings | {"cpu_products": "plain"}).close()
        Journal(tmp_path / "a.jsonl", settings | {"cpu_products": "packed"}, rank=1).close()
    with pytest.warns(
        UserWarning, match="begun with cpu_products 'plain' and goes on with 'packed"
    ):
        Journal(tmp_path / "a.jsonl", settings | {"cpu_products": "packed"}).close()


@pytest.mark.parametrize("before", [{}, {"cpu_products": "plain"}])
def test_in_half_precision_it_does_not(tmp_path, before):
    settings = {"dtype": "bfloat16"}
    with Journal(tmp_path / "a.jsonl", settings | before) as journal:
        journal.append({"key": "1", "record": {}})
    Journal(tmp_path / "a.jsonl", settings | {"cpu_products": "plain"}).close()
    with pytest.raises(UserError, match="cpu_products was 'plain' and is 'packed'"):
        Journal(tmp_path / "a.jsonl", settings | {"cpu_products": "packed"}).close()


def test_settings_of_a_run_that_answered_nothing_do_not_count(tmp_path):
    Journal(tmp_path / "a.jsonl", {"seed": 1}).close()
    with Journal(tmp_path / "a.jsonl", {"seed": 2}) as journal:
        journal.append({"key": "1", "record": {}})
    with pytest.raises(UserError, match="seed was 2 and is 1"):
        Journal(tmp_path / "a.jsonl", {"seed": 1})


@pytest.mark.parametrize("name", ["settings.json", "."])
def test_what_stands_in_the_way(tmp_path, name):
    path = tmp_path / "a.jsonl"
    with Journal(path, {}) as journal:
        journal.append({"key": "1", "record": {}})
    if name == ".":
        path.mkdir()
    else:
        (tmp_path / "a.jsonl.run" / name).write_text("{")
    with pytest.raises(UserError, match="not valid JSON|is a folder"):
        Journal(path, {})


def test_an_error_does_not_undo_an_answer(tmp_path):
    with Journal(tmp_path / "a.jsonl", {}) as journal:
        journal.append({"key": "1", "record": {"text": "yes"}})
        journal.append({"key": "1", "error": "lost"})
        assert journal.outcomes()["1"]["record"] == {"text": "yes"}
