"""Files in and out: strict JSON, and locks on file systems with and without them."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from llava.errors import UserError
from llava.files import parse_json, read_json, take_lock
from llava.utils.jsonl import read_lines


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[-Infinity]",
        "1e999",
        '"\\ud800"',
        '{"\\uDFFF": 1}',
        "[" * 100_000,
        "9" * 5000,
        "9" * 400,
        "",
    ],
)
def test_what_cannot_be_written_or_compared_is_no_json(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_large_whole_numbers_are_read():
    assert parse_json("1" + "0" * 30) == 10**30


def test_a_whole_surrogate_pair_is_read():
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"


def test_any_bytes_are_read_as_json_or_refused(fuzz, tmp_path):
    def read(content: bytes) -> None:
        (tmp_path / "file.json").write_bytes(content)
        read_json(tmp_path / "file.json")

    fuzz(read, [b'{"a": [1, 2.5, {"b": "c"}], "d": "\\ud83d\\ude00"}'])


def test_any_bytes_are_read_as_lines(fuzz, tmp_path):
    def read(content: bytes) -> None:
        (tmp_path / "file.jsonl").write_bytes(content)
        for _, value in read_lines(tmp_path / "file.jsonl"):
            assert isinstance(value, (dict, str))

    fuzz(read, [b'{"question_id": 1, "text": "a"}\n{"question_id": 2, "text": "b"}\n'])


def test_a_lock_keeps_others_out(tmp_path):
    with (tmp_path / "lock").open("ab") as mine, (tmp_path / "lock").open("ab") as other:
        assert take_lock(mine)
        assert not take_lock(other)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_it_goes_on_after_a_warning(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (tmp_path / "lock").open("ab") as file, pytest.warns(UserWarning, match="locks"):
        assert take_lock(file)


def test_a_message_of_read_json_names_the_file(tmp_path):
    (tmp_path / "a.json").write_text("[1e999]")
    with pytest.raises(UserError, match="a.json.*too large"):
        read_json(tmp_path / "a.json")
