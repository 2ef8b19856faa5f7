"""The check of a GPU, rehearsed with small shapes on a CPU, where its times mean nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def rehearse(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu_check")

    def run(parts):
        settings = {
            "OUT": str(out),
            "PARTS": parts,
            "OMP_NUM_THREADS": "1",
            "PYTHON": sys.executable,
        }
        return subprocess.run(
            ["bash", "scripts/gpu_check.sh", "--rehearse"],
            cwd=ROOT,
            env=os.environ | settings,
            capture_output=True,
            text=True,
        )

    return out, run


def test_all_kinds_of_parts_run_and_are_on_the_page(rehearse):
    out, run = rehearse
    done = run("tests answers train throughput")
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads((out / "gpu_check.json").read_text("utf-8"))
    assert set(report) == {"tests", "answers", "train", "throughput"}
    methods = [case["method"] for case in report["answers"]["cases"]]
    assert methods == ["hf", "prune", "accm"]
    assert len(report["train"]["rows"]) == 4
    assert all(row["failed"] == 0 for row in report["throughput"]["rows"].values())
    page = (out / "gpu_check.md").read_text("utf-8")
    assert "| accm, K = 36 | 1 |" in page
    assert "train_compensation: a step of 4 questions" in page
    again = run("tests answers train throughput")
    assert "== train" not in again.stdout  # what is done is not run again
