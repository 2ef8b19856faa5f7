"""Recorded cases, replayed by the command."""

import json

import numpy as np
import pytest

from llava.eval.replay import main

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
