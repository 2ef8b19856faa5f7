"""The scene graph: relation model, triplets, files, and the way through the whole model.

The recorded cases are read from ``../shared/golden/scene_graph`` where that is there.
"""

import argparse
import functools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from llava.constants import IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.eval.tracing import answer_record
from llava.mm_utils import load_image
from llava.model.compensation.relation_builder import load_relation_model, round_input
from llava.model.compensation.relation_layers import grid_positions
from llava.model.compensation.relation_model import RelationModel, RelationSizes
from llava.model.compensation.remembered import remembering
from llava.model.compensation.triplets import (
    Names,
    SceneGraphSettings,
    choose,
    find_triplets,
    join_texts,
    vg150_names,
)
from llava.model.sample import Sample
from llava.serve.chat import why
from llava.serve.web.panels import candidates, name_of
from tests.conftest import SHARED
from tests.helpers.relations import SIZES, save_relation_model, small_relation_model

RECORDED = SHARED / "golden" / "scene_graph"
IS_HERE = (RECORDED / "cases.json").is_file()
CASES = json.loads((RECORDED / "cases.json").read_text("utf-8")) if IS_HERE else {}
recorded_only = pytest.mark.skipif(not IS_HERE, reason="../shared/golden/scene_graph is not here")
LOGITS = ("rel_logits", "sub_logits", "obj_logits")
# Recorded name of an array -> ours, and the difference allowed.
ARRAYS = {
    **{name: (name, 1e-3) for name in (*LOGITS, "entity_logits")},
    **{name: (name, 1e-4) for name in ("sub_boxes", "obj_boxes", "entity_boxes")},
    "subject_maps": ("sub_maps", 1e-5),
    "object_maps": ("obj_maps", 1e-5),
}


@functools.cache
def recorded_model(name, rounding="none"):
    return load_relation_model(RECORDED / f"weights_{name}.pth", rounding=rounding)


@functools.cache
def arrays(name):
    with np.load(RECORDED / name) as found:
        return {key: torch.from_numpy(found[key]).float() for key in found.files}


def inputs_of(case):
    rounding = case["rounding"] or "none"
    names = case["patches"], case["question_embed"]
    return rounding, *(round_input(arrays("inputs.npz")[name], rounding) for name in names)


@recorded_only
@pytest.mark.parametrize("case", CASES.get("cases", []), ids=lambda case: case["id"])
@torch.inference_mode()
def test_recorded_cases_are_met(case):
    rounding, patches, question = inputs_of(case)
    outputs = arrays("outputs.npz")
    found = recorded_model(case["weights"], rounding)(patches[None], question[None])
    for recorded, (name, atol) in ARRAYS.items():
        wanted = outputs.get(f"{case['id']}/{recorded}")
        if wanted is not None:
            mine = getattr(found, name)[0][: len(wanted)]
            torch.testing.assert_close(mine, wanted, rtol=0, atol=atol)
    graph = find_triplets(*(getattr(found, name)[0] for name in LOGITS), vg150_names())
    assert graph.passed == case["passed"]
    assert graph.texts == case["triplets"]
    for mine, wanted in zip(graph.kept, case["kept"], strict=True):
        probs = {name: wanted.pop(name) for name in ("p_rel", "p_sub", "p_obj", "score")}
        assert {name: getattr(mine, name) for name in wanted} == wanted
        assert {name: getattr(mine, name) for name in probs} == pytest.approx(probs, abs=1e-4)
    if graph.triplets:
        chosen, similarity = choose(outputs[f"{case['id']}/triplet_embeds"], question)
        assert similarity == pytest.approx(case["similarity"], abs=1e-5)
        assert chosen == case["chosen"]
        assert join_texts([graph.texts[place] for place in chosen]) == case["text"]


@recorded_only
@torch.inference_mode()
def test_recorded_stages_are_met():
    case, outputs = CASES["cases"][0], arrays("outputs.npz")
    _, patches, question = inputs_of(case)
    model = recorded_model(case["weights"])
    states = model.decode(patches[None], question[None])
    maps = states[-1].sub_maps, states[-1].obj_maps
    found = {
        "position": grid_positions(len(patches), 48),
        "mask_features": model.mask_features(*maps)[0],
    }
    fields = {"entities": "entities", "subjects": "subjects", "objects": "objects"}
    fields |= {"subject_maps": "sub_maps", "object_maps": "obj_maps"}
    for number, state in enumerate(states):
        found |= {f"{name}_{number}": getattr(state, field)[0] for name, field in fields.items()}
    for name, values in found.items():
        torch.testing.assert_close(values, outputs[f"a1/stage/{name}"], rtol=0, atol=1e-3)


@recorded_only
@torch.inference_mode()
def test_recorded_batches_are_single_runs():
    by_id = {case["id"]: case for case in CASES["cases"]}
    for batch in CASES["batches"]:
        inputs = [inputs_of(by_id[name])[1:] for name in batch["cases"]]
        found = recorded_model(batch["weights"])(*map(torch.stack, zip(*inputs)))
        for b, name in enumerate(batch["cases"]):
            for logits in LOGITS:
                wanted = arrays("outputs.npz")[f"{name}/{logits}"]
                torch.testing.assert_close(getattr(found, logits)[b], wanted, rtol=0, atol=1e-3)


@recorded_only
def test_the_published_layout_is_that_of_the_model():
    layout = json.loads((RECORDED / "layout-full-size.json").read_text("utf-8"))["tensors"]
    with torch.device("meta"):
        model = RelationModel(RelationSizes(768, 256, 2048, 3, 3, 100, 200, 152, 52))
    own = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert own == {key: entry["shape"] for key, entry in layout.items()}
    assert sum(p.numel() for p in model.parameters()) == 21_174_312


@recorded_only
def test_recorded_images_give_the_recorded_prompts(load_tiny):
    model = load_tiny(compensation="scene-graph", scene_graph=str(RECORDED / "weights_B.pth"))
    folder = SHARED / "golden" / "cases"
    known = json.loads((folder / "manifest.json").read_text("utf-8"))
    cases = [case for case in CASES["cases"] if case["id"].startswith("b")]
    samples = [
        Sample(
            load_image(folder / known["images"][case["image"]]["file"]),
            known["questions"][case["id"][-2:]]["llm_question"],
            tower_question=case["question"],
            visual_token_num=9 + number,
            max_new_tokens=1,
            pruner=("uniform", "accm")[number % 2],
        )
        for number, case in enumerate(cases)
    ]
    for answer, case in zip(model.answer(samples), cases, strict=True):
        assert answer.compensation.graph.texts == case["triplets"]
        assert answer.compensation.chosen == case["chosen"]
        assert answer.supplement.text == case["text"]
        assert answer.input_ids == case["llm_input_ids"]


# Triplets, by hand -------------------------------------------------------------------------------

NAMES = Names(("N/A", "dog", "cat", "ball"), ("__background__", "on", "near"))


def logits_of(*rows):
    """Logits of queries (sub, rel, obj, probability), one probability for all three or three."""
    kinds = [torch.full((len(rows), n), -30.0) for n in (4, 5, 5)]
    for query, (sub, rel, obj, *probs) in enumerate(rows):
        for kind, index, p in zip(kinds, (rel, sub, obj), probs if len(probs) > 1 else probs * 3):
            kind[query, index] = 0
            kind[query, -1] = math.log((1 - p) / p)  # the rest is of "none"
    return kinds


def texts_of(*rows, **settings):
    return find_triplets(*logits_of(*rows), NAMES, SceneGraphSettings(**settings)).texts


def test_each_of_the_three_probabilities_must_pass():
    one_below = [
        [p if at != place else 0.29 for at, p in enumerate([0.9] * 3)] for place in (0, 1, 2)
    ]
    rows = [(1, 1, 2, *probs) for probs in [*one_below, [0.31] * 3]]
    graph = find_triplets(*logits_of(*rows), NAMES)
    assert graph.passed == [3]
    assert graph.texts == ["dog on cat"]
    (triplet,) = graph.kept
    assert (triplet.query, triplet.sub, triplet.rel, triplet.obj) == (3, 1, 1, 2)
    assert triplet.p_rel == pytest.approx(0.31, abs=1e-6)
    assert triplet.score == pytest.approx(0.31**3, abs=1e-6)


def test_a_threshold_is_passed_strictly():
    assert texts_of((1, 1, 2, 0.5), threshold=0.5) == []
    assert texts_of((1, 1, 2, 0.5), threshold=0.4999) == ["dog on cat"]


def test_a_query_may_pass_though_none_is_likelier():
    assert texts_of((3, 2, 3, 0.4)) == ["ball near ball"]


def test_the_better_of_two_predicates_stays_and_a_pair_is_ordered():
    rows = [(1, 1, 2, 0.6), (1, 2, 2, 0.8), (2, 2, 1, 0.7)]
    assert texts_of(*rows) == ["dog near cat", "cat near dog"]


def test_equal_scores_keep_the_order_of_queries():
    rows = [(1, 1, 2, 0.5), (2, 1, 1, 0.5), (3, 1, 1, 0.5), (3, 1, 2, 0.9)]
    assert texts_of(*rows) == ["ball on cat", "dog on cat", "cat on dog", "ball on dog"]


def test_the_cut_comes_before_repeats_go_unless_said_otherwise():
    rows = [(1, 1, 2, 0.9), (1, 2, 2, 0.8), (3, 1, 1, 0.7)]
    assert texts_of(*rows, candidates=2) == ["dog on cat"]
    assert texts_of(*rows, candidates=2, repeats_first=True) == ["dog on cat", "ball on dog"]


def test_placeholders_are_written_unless_said_otherwise():
    rows = [(0, 1, 2, 0.9), (1, 0, 2, 0.8), (3, 1, 1, 0.7)]
    assert texts_of(*rows) == ["N/A on cat", "dog __background__ cat", "ball on dog"]
    assert texts_of(*rows, drop_placeholders=True) == ["ball on dog"]


def test_the_most_similar_texts_are_chosen_and_the_first_of_equals():
    texts = torch.tensor([[0.0, 3.0], [1.0, 1.0], [0.0, 1.0], [-2.0, 0.0]])
    question = torch.tensor([0.0, 5.0])
    chosen, similarity = choose(texts, question, SceneGraphSettings(chosen=3))
    assert chosen == [0, 2, 1]
    assert similarity == pytest.approx([1, math.sqrt(0.5), 1, 0])
    assert choose(texts, question)[0] == [0, 2, 1, 3]


def test_texts_are_joined():
    assert join_texts(["man riding horse", "dog on street"]) == "man riding horse, dog on street."


def test_there_are_150_objects_and_50_predicates():
    names = vg150_names()
    assert (len(set(names.classes)), len(set(names.predicates))) == (151, 51)
    assert (names.classes[78], names.predicates[38], names.classes[64]) == (
        "man",
        "riding",
        "horse",
    )
    with pytest.raises(UserError, match="weights tells 9 objects and 52 predicates apart"):
        names.check(9, 52, "weights")


# The model ---------------------------------------------------------------------------------------


def test_positions_count_from_one_to_a_full_turn():
    found = grid_positions(4, 8)
    half = torch.tensor([math.sin(math.pi), math.cos(math.pi), math.sin(math.pi / 100), 0])
    half[3] = math.cos(math.pi / 100)
    full = torch.tensor([0, 1, math.sin(2 * math.pi / 100), math.cos(2 * math.pi / 100)])
    wanted = [torch.cat(pair) for pair in ((half, half), (half, full), (full, half), (full, full))]
    torch.testing.assert_close(found, torch.stack(wanted), rtol=0, atol=1e-5)


def random_inputs(count, num_patches, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (count, num_patches, SIZES.embed_dim), (count, SIZES.embed_dim)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@torch.inference_mode()
def test_a_batch_is_its_samples_and_any_grid_is_read():
    model = small_relation_model()
    for num_patches in (4, 25):
        patches, questions = random_inputs(3, num_patches)
        whole = model(patches, questions)
        assert whole.sub_maps.shape == (3, SIZES.num_triplets, num_patches)
        torch.testing.assert_close(whole.sub_maps.sum(-1), torch.ones(3, SIZES.num_triplets))
        for b in range(3):
            alone = model(patches[b : b + 1], questions[b : b + 1])
            for one, of_all in zip(alone, whole):
                torch.testing.assert_close(one[0], of_all[b], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_question_counts_with_its_length():
    model = small_relation_model()
    patches, questions = random_inputs(1, 9)
    logits = model(patches, questions).rel_logits
    assert (model(patches, 2 * questions).rel_logits - logits).abs().max() > 1e-2


def test_what_is_no_square_grid_is_refused():
    with pytest.raises(UserError, match="6 is no square"):
        small_relation_model()(*random_inputs(1, 6))


def test_mask_features_send_no_gradient_into_the_maps():
    model = small_relation_model().requires_grad_(True)
    maps = torch.rand(1, 2, 9, requires_grad=True)
    assert model.mask_features(maps, maps).requires_grad
    model.mask_features(maps, maps).sum().backward()
    assert maps.grad is None


# Files -------------------------------------------------------------------------------------------


def same_weights(model, other):
    for (name, mine), wanted in zip(model.state_dict().items(), other.state_dict().values()):
        assert torch.equal(mine, wanted), name


def test_files_of_all_kinds_are_read(tmp_path):
    model = small_relation_model()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    trainer = {"model": model.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=1e-4)}
    wrapped = {"model": {f"module.{key}": value for key, value in model.state_dict().items()}}
    files = {"plain": state, "trainer": trainer, "wrapped": wrapped}
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
    save_file(state, tmp_path / "model.safetensors")
    for path in tmp_path.iterdir():
        same_weights(load_relation_model(path), model)


def test_weights_are_rounded_where_that_is_asked(tmp_path):
    path = save_relation_model(tmp_path / "model.pth")
    weight = small_relation_model().input_proj.weight
    rounded = load_relation_model(path, rounding="half-bfloat16").input_proj.weight
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, weight.half().bfloat16().float())
    assert not torch.equal(rounded, weight)


def test_foreign_keys_are_named_and_left_aside(tmp_path):
    state = small_relation_model().state_dict() | {"backbone.extra": torch.ones(2)}
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.warns(UserWarning, match="backbone.extra are no part of the relation model"):
        same_weights(load_relation_model(tmp_path / "model.pth"), small_relation_model())


@pytest.mark.parametrize(
    "change, error",
    [
        ({"so_mask_conv.3.running_mean": None}, "1 weights missing .so_mask_conv.3.running_mean"),
        (
            {"so_embed.weight": torch.ones(3, 16)},
            "so_embed.weight: expected .2, 16., found .3, 16.",
        ),
        ({"triplet_embed.weight": None}, "is not a relation model: it has no tensor triplet_embed"),
        ({"input_proj.weight": torch.ones(4, 48, 1, 1)}, "has width 4, which 8 heads cannot share"),
        ({"so_embed.weight": torch.full((2, 16), math.nan)}, "values that are NaN or infinite"),
    ],
)
def test_a_file_that_does_not_fit_gets_one_error(tmp_path, change, error):
    state = small_relation_model().state_dict() | change
    state = {key: value for key, value in state.items() if value is not None}
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=error) as caught:
        load_relation_model(tmp_path / "model.pth")
    assert "\n" not in str(caught.value)


# Through the whole model -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graphs(load_tiny, tmp_path_factory):
    path = save_relation_model(tmp_path_factory.mktemp("weights") / "model.pth")
    return load_tiny(compensation="scene-graph", scene_graph=str(path))


def samples(count=4):
    colours = ("red", "blue", "green", "white")
    images = [Image.new("RGB", (60, 40), colour) for colour in colours]
    for place, image in enumerate(images):
        image.paste("black", (5, 5, 20 + 9 * place, 30))
    return [
        Sample(image, f"What is at the {side}?", visual_token_num=20, max_new_tokens=2)
        for image, side in zip(images[:count], ("left", "right", "top", "very bottom"))
    ]


def test_the_graph_is_spliced_in_at_the_captions_place(graphs, prune_only):
    (sample,) = samples(1)
    (answer,), (plain,) = graphs.answer([sample]), prune_only.answer([sample])
    texts = answer.supplement.text
    assert texts.endswith(".") and 1 <= texts.count(",") + 1 <= 7
    tokenizer = graphs.language_model.tokenizer
    ids = tokenizer.encode(f"supplemented scene graph: {texts}")[1:]
    start = plain.input_ids.index(IMAGE_TOKEN_INDEX) + 3
    assert answer.input_ids == plain.input_ids[:start] + ids + plain.input_ids[start:]
    assert graphs.prompt_length(sample) >= answer.input_length


def test_a_batch_of_questions_is_each_alone_whatever_was_asked_before(graphs):
    together = graphs.answer(samples())
    for sample, answer in reversed(list(zip(samples(), together))):
        (alone,) = graphs.answer([sample])
        assert alone.supplement.text == answer.supplement.text
        assert alone.compensation.graph.passed == answer.compensation.graph.passed
        assert alone.out_ids == answer.out_ids


def test_a_trace_says_what_was_found_and_chosen(graphs):
    (answer,) = graphs.answer(samples(1))
    graph, record = (
        answer.compensation,
        json.loads(json.dumps(answer_record(answer)))["scene_graph"],
    )
    assert record["passed"] == graph.graph.passed
    assert [row["query"] for row in record["kept"]] == [one.query for one in graph.graph.kept]
    assert [row["text"] for row in record["triplets"]] == list(answer.supplement.candidates)
    assert all(0 <= number <= 1 for row in record["triplets"] for number in row["sub_box"])
    texts = [record["triplets"][place]["text"] for place in record["chosen"]]
    assert answer.supplement.text == ", ".join(texts) + "."
    similarity = [record["triplets"][place]["similarity"] for place in record["chosen"]]
    assert similarity == sorted(similarity, reverse=True)


def test_the_graph_does_not_depend_on_what_is_kept(graphs):
    (sample,) = samples(1)
    from_budgets = [
        graphs.answer(
            [
                Sample(
                    sample.image,
                    sample.question,
                    visual_token_num=k,
                    pruner=pruner,
                    max_new_tokens=1,
                )
            ]
        )
        for k, pruner in ((5, "uniform"), (300, "accm"))
    ]
    assert len({answer.supplement.text for (answer,) in from_budgets}) == 1


def test_what_is_shown_marks_every_triplet_that_the_llm_reads(graphs):
    (answer,) = graphs.answer(samples(1))
    marked = [text for text, _, is_read in answer.supplement.shown if is_read]
    assert sorted(marked) == sorted(answer.supplement.text[:-1].split(", "))
    assert why(answer, 576).count("\n  * ") == len(marked) <= 7
    page = candidates(answer)
    assert page.count("<em>chosen</em>") == len(marked)
    assert "What was found in the image, and its likeness to the question" in page
    assert graphs.writes == "a scene graph"
    assert name_of(20, 576, graphs.writes) == "20 of 576 tokens and a scene graph"


def test_options_decide_what_is_read(load_tiny, tmp_path):
    weights = save_relation_model(tmp_path / "model.pth")
    options = ["chosen=2", "heading=seen:", "drop_placeholders=true"]
    model = load_tiny(
        compensation="scene-graph", scene_graph=str(weights), compensation_options=options
    )
    (answer,) = model.answer(samples(1))
    assert len(answer.compensation.chosen) == 2 and answer.supplement.heading == "seen:"
    assert {"relate", "select"} < set(answer.seconds) and "caption" not in answer.seconds
    with pytest.raises(UserError, match="--compensation-options would do nothing without"):
        load_tiny(compensation="merge", compensation_options=options)


def test_names_beside_the_weights_are_written(load_tiny, tmp_path):
    sizes = RelationSizes(48, 16, 24, 1, 1, 5, 12, 4, 3)
    weights = save_relation_model(tmp_path / "own.pth", small_relation_model(sizes=sizes))
    with pytest.raises(UserError, match="tells 4 objects and 3 predicates apart"):
        load_tiny(compensation="scene-graph", scene_graph=str(weights))
    names = {"classes": ["N/A", "disc", "bar"], "predicates": ["__background__", "beside"]}
    (tmp_path / "own.names.json").write_text(json.dumps(names), "utf-8")
    model = load_tiny(compensation="scene-graph", scene_graph=str(weights))
    (answer,) = model.answer(samples(1))
    words = {word for text in answer.supplement.candidates for word in text.split()}
    assert words and words <= {"N/A", "disc", "bar", "__background__", "beside"}


def test_a_run_finds_a_graph_once_for_all_budgets(graphs, monkeypatch):
    model = graphs.with_compensator(remembering(graphs.compensator)).eval()
    calls = []
    run = model.compensator.run_model
    monkeypatch.setattr(
        model.compensator, "run_model", lambda *x: calls.append(len(x[0])) or run(*x)
    )
    of_images = graphs.encode_images(graphs.preprocess([s.image for s in samples()]))
    asked = [replace(s, image=image) for s, image in zip(samples(), of_images)]
    for budget, pruner in ((20, "accm"), (9, "uniform")):
        now = [replace(s, visual_token_num=budget, pruner=pruner) for s in asked]
        for mine, usual in zip(model.answer(now), graphs.answer(now)):
            assert mine.supplement.text == usual.supplement.text and mine.out_ids == usual.out_ids
    assert calls == [4]
    model.answer([replace(asked[0], question="Where is it?")])
    assert calls == [4, 1]


def test_without_triplets_the_prompt_stays_as_it_was(load_tiny, prune_only, tmp_path):
    weights = save_relation_model(tmp_path / "none.pth", small_relation_model(none_bias=1e3))
    model = load_tiny(compensation="scene-graph", scene_graph=str(weights))
    (answer,), (plain,) = model.answer(samples(1)), prune_only.answer(samples(1))
    assert answer.supplement.text is None
    assert answer.input_ids == plain.input_ids
    assert answer.out_ids == plain.out_ids


def test_weights_of_another_clip_are_refused(load_tiny, tmp_path):
    sizes = RelationSizes(40, 16, 24, 1, 1, 5, 12, 152, 52)
    weights = save_relation_model(tmp_path / "other.pth", small_relation_model(sizes=sizes))
    with pytest.raises(UserError, match="reads embeddings of 40 numbers, and CLIP gives 48"):
        load_tiny(compensation="scene-graph", scene_graph=str(weights))


def test_a_missing_file_is_named_with_the_way_to_get_it(load_tiny):
    with pytest.raises(UserError, match="no accm/checkpoint0104.pth .* --scene-graph"):
        load_tiny(compensation="scene-graph")


def test_a_flag_without_effect_is_refused(load_tiny):
    with pytest.raises(UserError, match="--scene-graph would do nothing without"):
        load_tiny(compensation="none", scene_graph="weights.pth")
