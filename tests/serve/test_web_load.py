"""The load command: its table, and that it sees what is wrong."""

import psutil
import pytest

from llava.errors import UserError
from tests.load.__main__ import (
    LoadArguments,
    crowd_rows,
    main,
    malformed_rows,
    memory_rows,
    page_flags,
    thirds,
)
from tests.load.crowd import Case, answered_alone, is_same
from tests.load.process import Served, served

ARGUMENTS = LoadArguments(visitors=2, questions=2, requests=6, malformed=4)


@pytest.fixture
def running(page, tmp_path):
    (tmp_path / "upload").write_bytes(bytes(2_000_000))
    return Served(page, psutil.Process(), tmp_path)


@pytest.mark.parametrize("rows", [crowd_rows, memory_rows, malformed_rows])
def test_all_is_well(running, mini, rows):
    for row in rows(running, mini, ARGUMENTS):
        assert row.is_good is not False, row


def test_memory_and_disk_are_in_megabytes(running):
    assert 100 < running.memory() < 100_000
    assert running.disk() == 2


def test_what_is_lost_is_counted(mini, tmp_path):
    nowhere = Served("http://127.0.0.1:1/", psutil.Process(), tmp_path)
    rows = {row.name: row for row in crowd_rows(nowhere, mini, ARGUMENTS)}
    assert rows["lost"].value == "4" and rows["lost"].is_good is False


def test_another_answer_is_seen(mini, scene):
    expected = answered_alone(mini, Case(scene, "What color is the star?", 9))
    assert is_same(expected, expected)
    changed = expected | {"full": expected["full"] | {"text": "white"}}
    assert not is_same(changed, expected)


def test_the_page_gets_the_flags_of_the_model():
    args = LoadArguments(device="cpu", compensation=False, visitors=40)
    assert page_flags(args) == [
        *("--queue-limit", "40", "--model-path", "checkpoints/accm-mini"),
        *("--device", "cpu", "--compensation", "False"),
    ]


def test_numbers_of_nothing(capsys):
    assert main(["--requests", "0"]) == 2
    assert "--requests is 0; it must be at least 1" in capsys.readouterr().err


def test_thirds():
    assert thirds([1, 1, 5, 5, 3, 3]) == (1, 3)
    assert thirds([2]) == (2, 2)


def test_a_page_that_does_not_start():
    with pytest.raises(UserError, match="did not start.*--queue-limit is 0"):
        with served(["--queue-limit", "0"]):
            pass
