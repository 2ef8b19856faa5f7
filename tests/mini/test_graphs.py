"""The true graphs of drawn scenes, and how found ones are counted."""

import json

import pytest

from llava.errors import UserError
from llava.mini import measure_graphs
from llava.mini.graphs import MOST_TRIPLETS, NAMES, relations_of
from llava.mini.measuring.graphs import counts_of, shares
from llava.mini.scene import Thing, make_scene, scene_generator

# Two objects in the northwest, one in the northeast, one in the southeast.
THINGS = [
    Thing("star", "green", "large", 0, 12.0, 12.0, 10.0),
    Thing("ring", "black", "small", 5, 36.0, 36.0, 6.0),
    Thing("cross", "red", "small", 3, 84.0, 12.0, 6.0),
    Thing("circle", "blue", "large", 15, 84.0, 84.0, 12.0),
]


def test_triplets_are_quarters_and_neighbours():
    assert {one.text for one in relations_of(THINGS)} == {
        "large green star in the northwest",
        "small black ring in the northwest",
        "small red cross in the northeast",
        "large blue circle in the southeast",
        "large green star left of small red cross",
        "small black ring left of small red cross",
        "small red cross above large blue circle",
    }


def test_boxes_are_shares_of_the_image():
    quarter, *_ = [one for one in relations_of(THINGS) if one.subject.box[0] > 0.8]
    assert quarter.subject.box == pytest.approx((84 / 96, 12 / 96, 12 / 96, 12 / 96))
    assert quarter.object.box == (0.75, 0.25, 0.5, 0.5)


def test_no_scene_has_too_many_triplets_or_a_pair_twice():
    for number in range(200):
        found = relations_of(make_scene(scene_generator(7, "train", number)).things)
        assert len(found) <= MOST_TRIPLETS
        assert len({(one.subject, one.object) for one in found}) == len(found)
    assert len(set(NAMES.classes)) == 1 + 2 * 8 * 6 + 4


def test_recall_and_precision_are_of_all_scenes_together():
    truth = [one.text for one in relations_of(THINGS)]
    wrong = "large green star above small red cross"
    rows = [counts_of(truth, [*truth[:3], wrong]), counts_of(truth, [truth[0]])]
    found = {name: share.value for name, share in shares(rows).items()}
    assert found["recall, all triplets"] == pytest.approx(4 / 14)
    assert found["recall, in the"] == pytest.approx(4 / 8)
    assert found["recall, above"] == 0
    assert found["precision"] == pytest.approx(4 / 5)


def test_the_small_model_finds_most_of_what_is_there(tmp_path):
    output = tmp_path / "numbers.json"
    words = ["--model-path", "checkpoints/accm-mini", "--scenes", "12", "--device", "cpu"]
    assert measure_graphs.main([*words, "--output", str(output)]) == 0
    found = json.loads(output.read_text("utf-8"))
    assert found["recall, in the"]["value"] > 0.7 and found["precision"]["value"] > 0.7
    assert found["settings"]["scenes"] == 12


def test_what_finds_no_triplets_is_refused():
    args = measure_graphs.GraphArguments(model_path="x", compensation="merge")
    with pytest.raises(UserError, match="only --compensation scene-graph finds triplets"):
        args.check()
