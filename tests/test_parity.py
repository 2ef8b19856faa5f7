"""The first questions of the parity pack; `python tests/parity.py` has all of them."""

import copy
import json

import pytest

from tests import parity

QUESTIONS = 8


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("parity")
    parity.answer(out, QUESTIONS)
    return parity.pack(out)


@pytest.fixture(scope="module")
def recorded():
    return json.loads(parity.PACK.read_text("utf-8"))


def test_answers_and_traces_are_those_that_were_recorded(found, recorded):
    assert len(recorded) == 7 * (2 + 2 * len(parity.BUDGETS))
    assert all(len(run["questions"]) >= QUESTIONS for run in found.values())
    assert parity.differences(recorded, found) == []


def test_another_answer_or_score_is_noticed(found, recorded):
    changed = copy.deepcopy(found)
    changed["pope/prune-9"]["questions"][1] = "0" * 10
    changed["gqa/accm-18"]["scores"][0][2] += 1e-4
    del changed["mme/full"]
    assert parity.differences(recorded, changed) == [
        "mme/full is only in one of them",
        "gqa/accm-18, question 1",
        "pope/prune-9, question 2",
    ]
