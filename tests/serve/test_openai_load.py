"""The commands that measure the server, with little to do; and the documents' example."""

import re
from pathlib import Path

import pytest

from tests.load import api_crowd, same_answers

ROOT = Path(__file__).parents[2]


def test_a_crowd_gets_its_answers(server, capsys):
    few = ["--clients", "3", "--requests", "2", "--alone", "2"]
    assert api_crowd.main(["--address", server.address, *few]) == 0
    assert "6 requests of 3 clients: 0 lost, 0 wrong" in capsys.readouterr().out


def test_answers_are_compared(capsys):
    assert same_answers.main(["--questions", "4", "--at-once", "4"]) == 0
    assert "local: 4 of 4 answers" in capsys.readouterr().out


def test_the_example_of_the_documents(server, capsys, monkeypatch):
    """With the official client, where that is installed."""
    pytest.importorskip("openai")
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "serving.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(code.replace("http://127.0.0.1:8000/", server.address), {})
    assert capsys.readouterr().out.startswith("black CompletionUsage")
