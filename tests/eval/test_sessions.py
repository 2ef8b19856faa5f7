"""When, where and how fast: written down whatever ends a run, and read with what is damaged."""

import json

import pytest

from llava.eval.engine import Clock
from llava.eval.report.circumstances import read_circumstances
from llava.eval.sessions import noting_session, read_sessions


@pytest.fixture
def answers_file(tmp_path):
    (tmp_path / "a.jsonl.run").mkdir()
    return tmp_path / "a.jsonl"


def work(answers_file, rank, questions, seconds, error=None):
    clock = Clock()
    with noting_session(answers_file, rank, "cpu", clock):
        clock.questions, clock.wall = questions, seconds
        if error is not None:
            raise error


def test_a_run_that_was_stopped_has_two_sessions(answers_file):
    with pytest.raises(KeyboardInterrupt):
        work(answers_file, 0, 3, 6.0, KeyboardInterrupt())
    work(answers_file, 0, 1, 1.0)
    work(answers_file, 1, 4, 1.0)
    sessions = read_sessions(answers_file)
    assert [(s.questions, s.seconds) for s in sessions] == [(3, 6.0), (1, 1.0), (4, 1.0)]
    assert "cores" in sessions[0].machine and len(sessions[0].date) == 10
    made = read_circumstances({"seed": 42, "compile": True, "method": "accm"}, answers_file)
    assert made.seconds == 1.0  # 8 s for 8 questions
    assert made.settings == "seed 42, compile" and made.machine == sessions[0].machine


def test_a_run_that_had_nothing_to_do_notes_nothing(answers_file):
    work(answers_file, 0, 0, 0.0)
    assert list((answers_file.parent / "a.jsonl.run").iterdir()) == []
    assert read_circumstances(None, answers_file).seconds is None


def test_what_is_damaged_is_left_out(answers_file):
    good = {"date": "2026-11-26", "machine": "m", "questions": 2, "seconds": 3}
    bad = [{"questions": 0}, {"questions": True}, {"seconds": -1}, {"date": 3}, {"more": 1}]
    lines = [json.dumps(good | change) for change in bad] + ["[1]", "{", json.dumps(good)]
    (answers_file.parent / "a.jsonl.run" / "sessions-0.log").write_text("\n".join(lines))
    assert [session.seconds for session in read_sessions(answers_file)] == [3]
    assert read_sessions(answers_file.with_name("x" * 5000)) == []
