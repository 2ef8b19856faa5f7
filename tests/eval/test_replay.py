"""Recorded cases, replayed by the command."""

import json

import numpy as np
import pytest
import torch

from llava.eval.replay import main
from llava.model.compensation.triplets import find_triplets, vg150_names
from tests.conftest import SHARED
from tests.helpers.relations import SIZES, save_relation_model, small_relation_model

SCENE = {
    "a/attn_cls": np.array([[0.0, 0.1, 0.4, 0.3, 0.2]], np.float32),
    "a/hidden": np.eye(5, dtype=np.float16),
    "a/keys": np.eye(5, dtype=np.float16),
    "a/query_cls": np.ones(5, np.float16),
    "a/attn_mean_mid": np.full((5,), np.nan, np.float32),
    "a/attn_mean_deep": np.ones(3, np.float32),
    "a/text": np.array(["no number"]),
    "b/attn_cls": np.ones((1, 4), np.float32),
    "b/hidden": np.ones(5, np.float32),
}
FASTER = {
    "id": "f",
    "method": "fastervlm",
    "variant": "",
    "n": 4,
    "budget": 2,
    "settings": {},
    "inputs": ["a/attn_cls"],
}
PRUMERGE = {
    "id": "prumerge-fixed/a",
    "method": "prumerge",
    "variant": "fixed",
    "n": 4,
    "budget": 2,
    "settings": {"adaptive": False, "reduction_ratio": 0.26, "neighbours": 1},
    "inputs": ["a/hidden", "a/keys", "a/query_cls"],
}


@pytest.fixture
def replay(tmp_path):
    """replay(cases, *flags): exit status, and the lines written."""
    np.savez(tmp_path / "inputs.npz", **SCENE)

    def run(cases, *flags):
        (tmp_path / "cases.json").write_text(json.dumps({"cases": cases}))
        words = ["--cases", tmp_path / "cases.json", "--inputs", tmp_path / "inputs.npz"]
        words += ["--output", tmp_path / "out.jsonl", *flags]
        status = main([str(word) for word in words])
        return status, [json.loads(line) for line in (tmp_path / "out.jsonl").open()]

    return run


@pytest.mark.parametrize("flags", [[], ["--float64"]])
def test_a_case_is_a_line(replay, flags):
    status, lines = replay([FASTER, PRUMERGE], *flags)
    assert status == 0
    assert lines == [
        {"id": "f", "kept": [1, 2], "picked": [1, 2], "n_out": 2},
        {"id": "prumerge-fixed/a", "kept": [0], "picked": [0], "n_out": 2},
    ]


def test_merged_tokens_are_written_by_case_and_name(replay, tmp_path):
    status, _ = replay([FASTER, PRUMERGE], "--arrays", tmp_path / "arrays.npz")
    arrays = np.load(tmp_path / "arrays.npz")
    assert (status, arrays.files) == (0, ["prumerge-fixed/a/merged"])
    merged = arrays["prumerge-fixed/a/merged"]
    assert merged.dtype == np.float32
    # All keys are equally far from the query and from each other: each token weighs 1/5.
    wanted = [[0, 1, 0.2, 0, 0], [0, 0, 0.2, 0.2, 0.2]]
    np.testing.assert_allclose(merged, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "changed, error",
    [
        ({"method": "fastervlmm"}, "no published pruner 'fastervlmm' (did you mean fastervlm?)"),
        ({"method": 3}, "no published pruner 3"),
        ({"variant": "fast"}, "fastervlm has no variant 'fast'"),
        ({"variant": ["x"]}, "fastervlm has no variant ['x']"),
        ({"settings": {"k": 1}}, "there is no setting k: there are none"),
        ({"settings": []}, "the settings must be an object"),
        ({"inputs": []}, "fastervlm reads attn_cls, which the inputs of the case lack"),
        ({"inputs": "a/attn_cls"}, "the inputs must be a list"),
        ({"inputs": ["z/attn_cls"]}, "the inputs have no array 'z/attn_cls'"),
        ({"inputs": ["b/attn_cls"]}, "attn_cls has shape (1, 4)"),
        ({"budget": 5}, "must be a whole number from 1 to 4"),
        ({"budget": None}, "the budget is None"),
        ({"budget": 1.5}, "the budget is 1.5"),
        ({"n": "4"}, "n is '4'"),
        ({"method": "mustdrop", "inputs": ["b/hidden"]}, "it must have 2 axes"),
        ({"method": "mustdrop", "inputs": ["a/hidden"]}, "cannot be cut into windows of 3"),
        (
            {"method": "hiprune", "inputs": ["a/attn_mean_mid", "a/attn_mean_deep"]},
            "a/attn_mean_mid of the inputs is not of finite numbers",
        ),
    ],
)
def test_a_case_that_cannot_be_run_is_a_line_that_says_why(replay, changed, error):
    status, (wrong, right) = replay([FASTER | changed, FASTER])
    assert status == 1
    assert set(wrong) == {"id", "error"}
    assert wrong["id"] == "f"
    assert error in wrong["error"]
    assert right["kept"] == [1, 2]


@pytest.mark.parametrize("case", [None, 3, [], {}, {"id": 4}])
def test_what_is_no_case_is_a_line_too(replay, case):
    _, (wrong, right) = replay([case, FASTER])
    assert "a case must be an object with an id" in wrong["error"]
    assert right["kept"] == [1, 2]


def test_a_file_that_is_no_npz_is_refused(replay, tmp_path, capsys):
    for content in (b"", b"PK\3\4 but no zip", b"\x93NUMPY"):
        (tmp_path / "bad.npz").write_bytes(content)
        assert main(words(tmp_path, inputs="bad.npz")) == 2
        assert "as an .npz file: check the path" in capsys.readouterr().err
    np.save(tmp_path / "one.npy", np.ones(2))
    assert main(words(tmp_path, inputs="one.npy")) == 2
    assert main(words(tmp_path, inputs="none.npz")) == 2
    assert not (tmp_path / "out.jsonl").exists()


def words(folder, cases="cases.json", inputs="inputs.npz"):
    (folder / "cases.json").write_text(json.dumps({"cases": []}))
    flags = {"--cases": cases, "--inputs": inputs, "--output": "out.jsonl"}
    return [word for flag, name in flags.items() for word in (flag, str(folder / name))]


@pytest.mark.parametrize("text", ["[]", "{}", '{"cases": 3}', "{", '{"cases": [NaN]}'])
def test_a_file_without_cases_is_refused(replay, tmp_path, capsys, text):
    (tmp_path / "odd.json").write_text(text)
    assert main(words(tmp_path, cases="odd.json")) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_flags_that_are_missing_or_clash_are_named(replay, tmp_path, capsys):
    assert main(["--cases", "cases.json"]) == 2
    assert "--inputs is missing" in capsys.readouterr().err
    assert main([*words(tmp_path), "--arrays", str(tmp_path / "out.jsonl")]) == 2
    assert "--output and --arrays are one file" in capsys.readouterr().err


def test_any_file_of_cases_gives_lines_or_one_error(fuzz, replay, tmp_path, capsys):
    def read(content):
        (tmp_path / "cases.json").write_bytes(content)
        assert main(fuzzed) in (0, 1, 2)

    fuzzed = words(tmp_path)
    fuzz(read, [json.dumps({"cases": [FASTER, PRUMERGE]}).encode()])


# Scene graphs ------------------------------------------------------------------------------------

RECORDED = SHARED / "golden" / "scene_graph"
MAN, HORSE, RIDING, DOG, ON, STREET = 78, 64, 38, 37, 31, 124


def filter_logits(*rows):
    """Logits of queries (subject, predicate, object), each with a probability near 1."""
    arrays = {name: np.zeros((len(rows), n), np.float32) for name, n in KINDS.items()}
    for query, row in enumerate(rows):
        for values, index in zip(arrays.values(), row):
            values[query, index] = 20 - query
    return arrays


KINDS = {"sub_logits": 152, "rel_logits": 52, "obj_logits": 152}
FILTER = {"id": "f1", "question_embed": "question", "calls": [{}, {"triplets": []}]}
MODEL = {
    "id": "m1",
    "weights": "X",
    "patches": "patches",
    "question_embed": "wide",
    "rounding": None,
}


@pytest.fixture
def graphs(tmp_path):
    """graphs(cases, filter_cases): exit status, and the lines written."""
    random = np.random.default_rng(2)
    inputs = {
        "question": np.array([1, 0], np.float32),
        "wide": random.normal(size=SIZES.embed_dim).astype(np.float32),
        "patches": random.normal(size=(9, SIZES.embed_dim)).astype(np.float16),
        "six": np.ones((6, SIZES.embed_dim), np.float32),
        "nan": np.full((9, SIZES.embed_dim), np.nan, np.float32),
    }
    outputs = {"f1/0/triplet_embeds": np.array([[0, 1], [2, 2]], np.float32)}
    rows = [(MAN, RIDING, HORSE), (DOG, ON, STREET)]
    outputs |= {f"f1/0/{name}": values for name, values in filter_logits(*rows).items()}
    none = filter_logits((151, 51, 151))
    outputs |= {f"f1/1/{name}": values for name, values in none.items()}
    outputs["m3/triplet_embeds"] = np.zeros((99, SIZES.embed_dim), np.float32)
    np.savez(tmp_path / "inputs.npz", **inputs)
    np.savez(tmp_path / "outputs.npz", **outputs)
    (tmp_path / "weights").mkdir()
    save_relation_model(tmp_path / "weights" / "weights_X.pth")
    (tmp_path / "weights" / "weights_bad.pth").write_bytes(b"no weights")

    def run(cases, filter_cases=(), *flags):
        content = {"cases": list(cases), "filter_cases": list(filter_cases)}
        (tmp_path / "cases.json").write_text(json.dumps(content))
        words = ["--scene-graph", tmp_path, "--weights", tmp_path, tmp_path / "weights"]
        words += ["--output", tmp_path / "out.jsonl", *flags]
        status = main([str(word) for word in words])
        return status, [json.loads(line) for line in (tmp_path / "out.jsonl").open()]

    return run


def test_each_call_of_a_filter_case_is_a_line(graphs):
    status, lines = graphs([], [FILTER])
    assert status == 0
    assert lines == [
        {
            "id": "f1/0",
            "passed": [0, 1],
            "kept": [0, 1],
            "triplets": ["man riding horse", "dog on street"],
            "chosen": [1, 0],
            "text": "dog on street, man riding horse.",
            "null": False,
        },
        {
            "id": "f1/1",
            "passed": [],
            "kept": [],
            "triplets": [],
            "chosen": [],
            "text": ".",
            "null": True,
        },
    ]


def test_recorded_embeddings_follow_the_cases_own_order_of_texts(graphs):
    listed = {"triplets": ["dog on street", "man riding horse"]}
    _, (line, _) = graphs([], [FILTER | {"calls": [listed, {}]}])
    assert line["chosen"] == [0, 1]


@torch.inference_mode()
def test_a_case_runs_its_relation_model(graphs, tmp_path):
    inputs, outputs = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("inputs", "outputs"))
    patches, question = (torch.from_numpy(inputs[name]).float() for name in ("patches", "wide"))
    found = small_relation_model()(patches[None], question[None])
    graph = find_triplets(*(part[0] for part in found[:3]), vg150_names())
    assert graph.triplets
    # Texts along the question, the longer the less: the last is the most similar.
    texts = np.tile(inputs["wide"], (len(graph.texts), 1))
    texts[:, 0] += np.arange(len(texts))[::-1]
    np.savez(tmp_path / "outputs.npz", **outputs | {"m1/triplet_embeds": texts})
    status, (line,) = graphs([MODEL])
    assert status == 0
    assert line["triplets"] == graph.texts
    assert line["passed"] == graph.passed
    assert line["kept"] == [triplet.query for triplet in graph.kept]
    assert line["chosen"] == list(range(len(texts)))[::-1][:7]
    assert line["text"].startswith(graph.texts[-1])


@pytest.mark.parametrize(
    "changed, error",
    [
        ({"weights": "Y"}, "there is no weights_Y.pth in "),
        ({"weights": "../X"}, "'../X' is no name of weights"),
        ({"weights": None}, "the weights are None"),
        ({"weights": "bad"}, "weights_bad.pth is damaged"),
        ({"rounding": "int8"}, "there is no rounding 'int8': use none, half-bfloat16"),
        ({"patches": "others"}, "the inputs have no array 'others'"),
        ({"patches": None}, "None is no name of an array of the inputs"),
        ({"patches": "nan"}, "the array nan of the inputs is not of finite numbers"),
        ({"patches": "six"}, "6 is no square"),
        ({"patches": "wide"}, "patches and question have shapes (48,) and (48,)"),
        ({"question_embed": "question"}, "patches and question have shapes (9, 48) and (2,)"),
        ({"question_embed": "patches"}, "the question's embedding has shape (9, 48)"),
        ({"id": "m3"}, "triplet_embeds has shape (99, 48), not one row a triplet"),
        ({"id": "m2"}, "the outputs have no array 'm2/triplet_embeds'"),
    ],
)
def test_a_graph_that_cannot_be_run_is_a_line_that_says_why(graphs, changed, error):
    status, (wrong, *right) = graphs([MODEL | changed], [FILTER])
    assert status == 1
    assert set(wrong) == {"id", "error"}
    assert error in wrong["error"]
    assert [line["null"] for line in right] == [False, True]


@pytest.mark.parametrize(
    "changed, error",
    [
        ({"calls": []}, "a filter case must have a list of calls"),
        ({"calls": [{"triplets": ["cat on mat"] * 2}]}, "no embedding of the triplet 'man riding"),
        ({"id": "f2", "calls": [{}]}, "the outputs have no array 'f2/0/rel_logits'"),
        ({"question_embed": "wide", "calls": [{}]}, "question and texts are of different widths"),
    ],
)
def test_a_filter_case_that_cannot_be_run_is_a_line_too(graphs, changed, error):
    status, (wrong,) = graphs([], [FILTER | changed])
    assert status == 1
    assert error in wrong["error"]


@pytest.mark.parametrize("case", [None, 3, [], {}, {"id": 4}])
def test_what_is_no_case_of_a_graph_is_a_line_too(graphs, case):
    status, lines = graphs([case], [case])
    assert status == 1
    assert len(lines) == 2
    assert all("error" in line for line in lines)


def test_without_its_files_of_arrays_each_case_says_so(graphs, tmp_path):
    (tmp_path / "outputs.npz").write_bytes(b"")
    _, lines = graphs([], [FILTER])
    assert [("outputs.npz as an .npz file" in line["error"]) for line in lines] == [True, True]


@pytest.mark.parametrize(
    "flags, error",
    [
        (["--scene-graph", "F", "--cases", "c"], "--cases has no effect with --scene-graph"),
        (["--scene-graph", "F", "--float64"], "--float64 has no effect with --scene-graph"),
        (["--scene-graph", "F", "--output", "o"], "--weights is missing: give --scene-graph"),
        (["--weights", "F", "--cases", "c"], "--weights belongs to --scene-graph"),
        (["--scene-graph", "F", "--weights", "F", "--output", "out.jsonl"], "there is no file F"),
    ],
)
def test_flags_of_the_two_kinds_of_cases_do_not_mix(flags, error, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    assert error in capsys.readouterr().err


@pytest.mark.skipif(not RECORDED.is_dir(), reason="../shared/golden/scene_graph is not here")
def test_recorded_scene_graphs_are_met(tmp_path):
    output = tmp_path / "out.jsonl"
    words = ["--scene-graph", RECORDED, "--weights", tmp_path, RECORDED, "--output", output]
    assert main([str(word) for word in words]) == 0
    found = {line["id"]: line for line in map(json.loads, output.open())}
    known = json.loads((RECORDED / "cases.json").read_text("utf-8"))
    wanted = {case["id"]: (case, "exact") for case in known["cases"]}
    for case in known["filter_cases"]:
        for number, call in enumerate(case["calls"]):
            wanted[f"{case['id']}/{number}"] = call, case["compare"]
    assert list(found) == list(wanted)
    for name, (case, compare) in wanted.items():
        line = found[name]
        case["kept"] = [triplet["query"] for triplet in case["kept"]]
        if compare == "exact":
            assert {key: case[key] for key in line if key != "id"} | {"id": name} == line
        else:
            for key in ("passed", "kept", "triplets", "chosen"):
                assert set(line[key]) == set(case[key])
