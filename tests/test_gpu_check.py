"""The check of a GPU, rehearsed with small shapes on a CPU, where its times mean nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

from scripts.gpu import __main__ as gpu_check

ROOT = Path(__file__).parents[1]


def test_all_kinds_of_parts_run_and_are_on_the_page(tmp_path, monkeypatch, capsys, warm_python):
    out, parts = tmp_path, ["tests", "train", "throughput", "llava-next-7b", "qwen2.5-vl-3b"]
    settings = {"OUT": str(out), "PARTS": " ".join(parts), "PYTHON": str(warm_python)}
    done = subprocess.run(
        ["bash", "scripts/gpu_check.sh", "--rehearse"],
        cwd=ROOT,
        env=os.environ | settings | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads((out / "gpu_check.json").read_text("utf-8"))
    assert list(report) == parts
    kept = {
        part: [(case["method"], case["visual_token_num"]) for case in report[part]["cases"]]
        for part in parts[-2:]
    }
    assert kept["llava-next-7b"] == [("hf", 720), ("prune", 80), ("accm", 80)]
    assert kept["qwen2.5-vl-3b"] == [("hf", 36), ("prune", 4)]
    assert len(report["train"]["rows"]) == 4
    assert all(row["failed"] == 0 for row in report["throughput"]["rows"].values())
    page = (out / "gpu_check.md").read_text("utf-8")
    assert "| accm, K = 80 | 1 |" in page
    assert "train_compensation: a step of 4 questions" in page
    done = (out / "train.json").stat().st_mtime_ns
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(out), "--rehearse", "--parts", *parts])
    assert gpu_check.main() == 0
    assert "== " not in capsys.readouterr().out  # what is done is not run again
    assert (out / "train.json").stat().st_mtime_ns == done
