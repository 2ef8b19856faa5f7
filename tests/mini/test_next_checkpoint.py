"""The mini LLaVA-NeXT of the repository: tiles and captions help it."""

import csv
import json
from pathlib import Path

import pytest

from llava.eval.sweep import main as sweep
from llava.mini.benchmarks import write_benchmarks
from llava.mini.measure import main as measure

FOLDER = Path(__file__).parents[2] / "checkpoints" / "accm-mini-next"
BASE = 144  # tokens of the base view; the four tiles have as many each


@pytest.fixture(scope="module")
def large_scenes(tmp_path_factory):
    """Benchmarks of pictures of twice the resolution."""
    folder = tmp_path_factory.mktemp("twice") / "eval"
    folder.mkdir()
    sizes = {"mme": 1, "mmbench": 1, "pope": 2, "mmvp": 6, "seed": 1, "gqa": 6, "flickr": 1}
    write_benchmarks(folder, seed=5, split="test", sizes=sizes, scale=2)
    return folder


def test_the_tiles_show_what_the_base_view_does_not(large_scenes, tmp_path):
    flags = ["--model-path", str(FOLDER), "--data-root", str(large_scenes), "--device", "cpu"]
    flags += ["--benchmarks", "pope", "gqa", "--output-dir", str(tmp_path)]
    flags += ["--methods", "full", "prune", "no-image", "--budgets", str(BASE)]
    flags += ["--view-split", "base-first", "--report", str(tmp_path / "report")]
    assert sweep(flags) == 0
    with (tmp_path / "report" / "report.csv").open() as file:
        mean = {
            row["method"]: float(row["mean_percent_of_full"])
            for row in csv.DictReader(file)
            if row["benchmark"] == "mean"
        }
    (base,) = (share for method, share in mean.items() if "view_split" in method)
    assert base < 90 and mean["no image"] < 75


def test_pruning_loses_and_captions_give_back(large_scenes, tmp_path):
    words = ["--model-path", str(FOLDER), "--data-root", str(large_scenes), "--device", "cpu"]
    words += ["--benchmarks", "pope", "mmvp", "gqa", "--budget", "18"]
    assert measure([*words, "--output", str(tmp_path / "numbers.json")]) == 0
    found = json.loads((tmp_path / "numbers.json").read_text("utf-8"))
    scores = {name: number["value"] for name, number in found["mean"]["scores"].items()}
    assert found["settings"]["num_patches"] == 5 * BASE
    assert scores["full"] > scores["nothing"] + 0.25
    assert scores["pruned"] < scores["full"] - 0.1
    assert scores["accm"] > scores["pruned"] + 0.03
