"""The annotations of llava/ fit each other: mypy with its settings in pyproject.toml.

Third-party packages are not read (pyproject.toml), so that this takes some ten
seconds of one core.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("mypy", reason="mypy is not installed: bash scripts/setup.sh test")


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """check(*words) runs mypy, from one cache; returns its exit status and its output."""
    cache = tmp_path_factory.mktemp("mypy")

    def run(*words):
        command = [sys.executable, "-m", "mypy", "--cache-dir", cache, *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


def test_no_annotation_is_wrong(check):
    status, output = check()
    assert status == 0, output


def test_a_wrong_use_of_llava_is_found(check, tmp_path):
    """The settings leave no such error out, and the types of llava/ are known."""
    wrong = {
        "AskArguments().seed.upper()": "attr-defined",
        "AskArguments(seed='42')": "arg-type",
        "AskArguments(visual_tokens=9)": "call-arg",
        "seed: str = AskArguments().seed": "assignment",
        "AskArguments().text_token_num + 1": "operator",
        "AskArguments().text_selection.upper()": "union-attr",
        "AskArguments()['seed']": "index",
    }
    file = tmp_path / "wrong.py"
    file.write_text("\n".join(["from llava.arguments import AskArguments", *wrong, ""]))
    status, output = check(file)
    assert status == 1, output
    found = dict(re.findall(r"wrong\.py:(\d+): error: .*\[([a-z-]+)\]$", output, re.M))
    assert [found.get(str(line)) for line in range(2, 2 + len(wrong))] == list(wrong.values()), (
        output
    )
