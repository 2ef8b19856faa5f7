"""Two runs on one training folder at once: one is refused, and no line is mixed."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_of_two_runs_one_is_refused_and_a_killed_one_is_gone_on_with(warm_python):
    command = [warm_python, "-m", "tests.load.stress_pairs", "--pairs", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{'not killed: right': 1, 'killed: right': 1}" in done.stdout
