"""Two runs on one training folder at once: one is refused, and no line is mixed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_of_two_runs_one_is_refused_and_a_killed_one_is_gone_on_with():
    command = [sys.executable, Path(__file__).with_name("stress_pairs.py"), "--pairs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{'not killed: right': 1, 'killed: right': 1}" in done.stdout
