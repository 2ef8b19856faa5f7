"""The mini models: whole, small, as recorded; the LLaVA-1.5 sees, and captions help it."""

import json
from pathlib import Path

import pytest

from llava.mini.measure import main
from llava.train.provenance import RECORD, file_hash

FOLDER = Path(__file__).parents[2] / "checkpoints" / "accm-mini"
STAGES = {
    "accm-mini": {"train_llava", "train_long_clip"},
    "accm-mini/clip-vit-mini-patch8-96": {"train_clip"},
    "accm-mini/accm": {"train_compensation", "train_scene_graph"},
    "accm-mini-next": {"train_llava"},
    "accm-mini-next/accm": {"train_caption", "train_selector"},
}


@pytest.mark.parametrize("model", ["accm-mini", "accm-mini-next"])
def test_all_files_together_are_small(model):
    files = [path for path in (FOLDER.parent / model).rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) < 25e6


@pytest.mark.parametrize("part", STAGES)
def test_weights_are_those_that_their_records_name(part):
    folder = FOLDER.parent / part
    records = json.loads((folder / RECORD).read_text("utf-8"))
    assert set(records) == STAGES[part]
    for record in records.values():
        for name, digest in record["outputs"].items():
            assert file_hash(folder / name) == digest, name


@pytest.fixture(scope="module")
def found(eval_folder, tmp_path_factory):
    """Its numbers on some questions of three benchmarks."""
    output = tmp_path_factory.mktemp("measured") / "numbers.json"
    words = ["--model-path", str(FOLDER), "--data-root", str(eval_folder), "--device", "cpu"]
    words += ["--benchmarks", "pope", "seed", "mmvp", "--limit", "54", "--output", str(output)]
    assert main(words) == 0
    return json.loads(output.read_text("utf-8"))


def test_it_sees_what_it_is_asked_about(found):
    scores = {name: number["value"] for name, number in found["mean"]["scores"].items()}
    assert scores["full"] > 0.8 and scores["nothing"] < 0.6
    for kind in ("existence", "color", "shape", "place"):
        assert found["kinds"][kind]["scores"]["full"]["value"] > 0.85, kind


def test_pruning_loses_and_captions_give_back(found):
    scores = {name: number["value"] for name, number in found["mean"]["scores"].items()}
    assert scores["pruned"] < scores["full"] - 0.1
    assert scores["accm"] > scores["pruned"] + 0.05
