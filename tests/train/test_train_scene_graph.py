"""The stage of the relation model: matching and losses by hand, a short run, and its files."""

import json
import math

import pytest
import torch

from llava.errors import UserError
from llava.mini.architecture import CLIP_NAME
from llava.mini.graphs import NAMES, node_of, relations_of
from llava.mini.training_set import read_training_set
from llava.model.compensation.relation_builder import load_relation_model
from llava.model.compensation.triplets import names_of, vg150_names
from llava.train import train_clip, train_scene_graph
from llava.train.provenance import file_hash

pytest.importorskip("scipy", reason="scipy is in the extra 'train'")

from llava.mini.stages.scene_graph import (  # noqa: E402
    SIZES,
    GraphObjective,
    graph_batch,
    new_relation_model,
)
from llava.mini.stages.set_losses import (  # noqa: E402
    Nodes,
    Truths,
    box_loss,
    class_loss,
    is_right,
    match,
    node_costs,
    overlaps,
    targets,
)

WHOLE = (0.5, 0.5, 1.0, 1.0)
LEFT, RIGHT = (0.25, 0.5, 0.5, 1.0), (0.75, 0.5, 0.5, 1.0)


def truths(*rows):
    """One image with (class, box) rows, and one of padding."""
    rows = [*rows, (0, WHOLE)]
    valid = [True] * (len(rows) - 1) + [False]
    classes, boxes = zip(*rows)
    return Truths(torch.tensor([classes]), torch.tensor([boxes]), torch.tensor([valid]))


def test_overlaps_of_halves_and_of_boxes_apart():
    iou, giou = overlaps(torch.tensor([LEFT, LEFT, LEFT]), torch.tensor([WHOLE, LEFT, RIGHT]))
    assert iou.tolist() == pytest.approx([0.5, 1, 0])
    assert giou.tolist() == pytest.approx([0.5, 1, 0])
    apart = torch.tensor([(0.1, 0.5, 0.2, 1.0)]), torch.tensor([(0.9, 0.5, 0.2, 1.0)])
    assert [part.item() for part in overlaps(*apart)] == pytest.approx([0, -0.6])


def test_truths_are_matched_at_the_least_sum_and_padding_with_none():
    """Greedily the first truth would take query 1, at a sum of 0 + 9."""
    costs = torch.tensor([[[1.0, 9.0, -5], [0.0, 1.0, -5], [7.0, 8.0, -5]]])
    assert match(costs, torch.tensor([[True, True, False]])).tolist() == [[0, 1, 3]]
    assert targets(torch.tensor([[0, 1, 3]]), torch.tensor([[4, 5, 0]]), 3, 9).tolist() == [
        [4, 5, 9]
    ]


def test_costs_are_class_distance_and_overlap():
    logits = torch.tensor([[[0.25, 0.75]]]).log()
    costs = node_costs(Nodes(logits, torch.tensor([[LEFT]])), truths((0, WHOLE)))
    assert costs[0, 0, 0].item() == pytest.approx(5 * 0.75 - 2 * 0.5 - 0.25)


def test_a_query_that_is_to_say_none_counts_a_tenth_and_a_forgiven_one_nothing():
    logits = torch.tensor([[[0.25, 0.75], [0.5, 0.5], [0.125, 0.875]]]).log()
    wanted = torch.tensor([[0, 1, 1]])  # the second class is "none"
    each = [math.log(4), math.log(2), math.log(8 / 7)]
    whole = (each[0] + 0.1 * each[1] + 0.1 * each[2]) / 1.2
    assert class_loss(logits, wanted).item() == pytest.approx(whole)
    forgiven = torch.tensor([[True, True, False]])  # the first has a truth, and is asked for it
    less = (each[0] + 0.1 * each[2]) / 1.1
    assert class_loss(logits, wanted, forgiven).item() == pytest.approx(less)


def test_boxes_are_compared_with_their_truths_only():
    boxes = torch.tensor([[RIGHT, LEFT, WHOLE]])
    found = box_loss(boxes, truths((0, WHOLE), (0, RIGHT)), torch.tensor([[1, 0, 3]]))
    assert found.item() == pytest.approx((5 * 0.75 + 2 * 0.5 + 0) / 2)


def test_right_is_the_class_where_it_lies():
    logits = torch.eye(3)[[1, 1, 0]][None]
    found = Nodes(logits, torch.tensor([[LEFT, RIGHT, LEFT]]))
    assert is_right(found, truths((1, LEFT))).tolist() == [[True, False, False]]


def scenes(world, count):
    found = read_training_set(world).scenes[:count]
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(count, 144, SIZES.embed_dim, generator=generator)
    questions = torch.randn(count, SIZES.embed_dim, generator=generator)
    entities = [[node_of(thing) for thing in things] for things in found]
    return patches, questions, entities, [relations_of(things) for things in found]


def test_a_batch_pads_to_the_longest(world):
    batch = graph_batch(*scenes(world, 3))
    relations = scenes(world, 3)[3]
    assert batch.subjects.valid.sum(1).tolist() == [len(of_image) for of_image in relations]
    first = relations[0][0]
    said = batch.subjects.classes[0, 0], batch.predicates[0, 0], batch.objects.classes[0, 0]
    assert [int(part) for part in said] == [
        first.subject.name,
        first.predicate,
        first.object.name,
    ]


def test_the_graph_of_a_scene_can_be_learnt(world):
    batch = graph_batch(*scenes(world, 1))
    objective = GraphObjective(new_relation_model(0)).train()
    optimiser = torch.optim.AdamW(objective.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        said = objective(batch)
        optimiser.zero_grad()
        said["loss"].backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimiser.step()
        losses.append(said["loss"].item())
    assert losses[-1] < losses[0] / 2 and 0 <= said["recall"] <= 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory, untrained, world):
    """Two runs of four steps over a CLIP without training; one is stopped after two."""
    work = tmp_path_factory.mktemp("graphs")
    clip = ["--vision-tower", str(untrained / CLIP_NAME), "--data", str(world), "--device", "cpu"]
    if not (untrained / CLIP_NAME / "model.safetensors").is_file():
        steps = ["--max-steps", "1", "--batch-size", "2", "--output-dir", str(work / "clip")]
        assert train_clip.main([*clip, *steps]) == 0
    shared = ["--model-path", str(untrained), "--data", str(world), "--device", "cpu"]
    shared += ["--features", str(work / "features"), "--batch-size", "4", "--warmup-steps", "0"]
    shared += ["--schedule", "constant", "--save-every", "2"]
    files = []
    for name, plans in {"whole": [4], "stopped": [2, 4]}.items():
        files.append(work / name / "checkpoint0104.pth")
        for steps in plans:
            words = ["--output-dir", str(work / f"{name}-run"), "--output", str(files[-1])]
            assert train_scene_graph.main([*shared, *words, "--max-steps", str(steps)]) == 0
    return files


def test_a_stopped_run_ends_with_the_bytes_of_a_whole_one(trained):
    whole, stopped = trained
    assert file_hash(whole) == file_hash(stopped)
    losses = [
        (file.parents[1] / f"{file.parent.name}-run" / "loss.jsonl").read_text() for file in trained
    ]
    assert losses[0] == losses[1] and "recall" in losses[0]


def test_weights_and_names_are_what_the_loader_takes(trained):
    model = load_relation_model(trained[0])
    assert model.sub_class_embed.out_features == len(NAMES.classes) + 1
    assert model.so_mask_conv[3].running_mean.abs().max() > 0  # measured when all was learnt
    assert names_of(trained[0]) == NAMES
    record = json.loads((trained[0].parent / "training.json").read_text("utf-8"))
    outputs = record["train_scene_graph"]["outputs"]
    assert set(outputs) == {"checkpoint0104.pth", "checkpoint0104.names.json"}


def test_names_are_vg150s_where_no_file_says_them_and_damage_is_named(tmp_path):
    weights = tmp_path / "model.pth"
    assert names_of(weights) == vg150_names()
    file = tmp_path / "model.names.json"
    for content, error in (
        ('{"classes": ["N/A", "dog"]}', "no lists of texts under classes and predicates"),
        ('{"classes": ["a", "a"], "predicates": ["b", "c"]}', "has one twice"),
    ):
        file.write_text(content, "utf-8")
        with pytest.raises(UserError, match=error):
            names_of(weights)
