import json
import os

import numpy as np
import pytest
from PIL import Image

from llava.eval.trace import main

FIELDS = (
    "id text_idx iqr cls_idx union_idx kept_idx captions caption_ids selector_scores chosen_index "
    "chosen_caption llm_input_ids inputs_embeds_len out_ids out_text"
).split()


def write_lines(path, values):
    text = "\n".join(v if isinstance(v, str) else json.dumps(v) for v in values) + "\n"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))  # \udce9 becomes a lone byte
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def trace(tiny_flags, monkeypatch, model):
    """The command in this process, on the tiny model that is loaded already."""
    monkeypatch.setattr("llava.eval.tracing.load_from_arguments", lambda args: model)
    return lambda *flags: main([*tiny_flags, *map(str, flags)])


def test_recorded_cases_through_the_command(golden, tiny_flags, tmp_path):
    """The whole command, from the files on: every field as recorded."""
    cases = [c for c in golden.json("accm_cases.json") if c["post_layernorm"]]
    images = golden.image_paths()
    requests = [
        {
            "id": case["id"],
            "image": os.path.relpath(images[case["image"]], tmp_path),
            "question": case["llm_question"],
            "tower_question": case["tower_prompt"],
            "visual_token_num": case["K"],
            "text_token_num": case["T"],
            "seed": case["seed"],
            "max_new_tokens": 16,
        }
        for case in cases
    ]
    path = write_lines(tmp_path / "requests.jsonl", requests)
    output = tmp_path / "output.jsonl"
    assert main([*tiny_flags, "--requests", str(path), "--output", str(output)]) == 0
    for case, found in zip(cases, read_lines(output), strict=True):
        for name in FIELDS:
            expected = case[name]
            if name in ("text_idx", "cls_idx"):  # near ties may change places
                assert sorted(found[name]) == sorted(expected)
            elif name == "selector_scores":
                assert found[name] == pytest.approx(expected, abs=1e-4)
            elif name == "iqr":
                assert found[name] == pytest.approx(expected, abs=1e-6)
            else:
                assert found[name] == expected, (case["id"], name)


def test_one_question_as_a_new_user_asks_it(tiny_flags, picture, tmp_path, capfd):
    """JSON and nothing else on standard output, a figure, and no other flag needed."""
    figure = tmp_path / "figure.png"
    words = ["--image", str(picture), "--question", "What is it?", "--visual-token-num", "40"]
    assert main([*tiny_flags, *words, "--figure", str(figure)]) == 0
    said = capfd.readouterr()
    record = json.loads(said.out)
    assert len(record["kept_idx"]) == 40
    assert "Traceback" not in said.err
    with Image.open(figure) as drawn:
        assert drawn.width > drawn.height > 600


def test_what_a_line_leaves_out_the_flags_say(trace, picture, tmp_path):
    base = {"id": 1, "image": picture.name, "question": "What is it?"}
    lines = [
        base,
        base | {"id": 2, "visual_token_num": 30},
        base | {"id": 3, "text_token_num": None},
    ]
    requests, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    flags = ("--visual-token-num", 50, "--max-new-tokens", 3, "--seed", 7)
    assert trace("--requests", requests, "--output", output, *flags) == 0
    records = read_lines(output)
    assert [len(r["kept_idx"]) for r in records] == [50, 30, 50]
    assert [len(r["out_ids"]) for r in records] == [3, 3, 3]


@pytest.mark.parametrize("k", [576, 575])
def test_stages_that_were_left_out_are_null(trace, picture, capsys, k):
    flags = ("--image", picture, "--question", "What?", "--visual-token-num", k)
    assert trace(*flags, "--max-new-tokens", 2) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["captions"] is None) == (record["text_idx"] is None) == (k == 576)
    assert len(record["kept_idx"]) == k


def test_bad_lines_cost_only_themselves(trace, picture, tmp_path, capsys):
    good = {"id": "good", "image": picture.name, "question": "What is it?", "max_new_tokens": 2}
    Image.new("L", (30_000, 4)).save(tmp_path / "wide.png")
    lines = [
        good | {"id": "first"},
        "{not json",
        '["a list"]',
        good | {"id": "no image", "image": "gone.png"},
        good | {"id": "wide", "image": "wide.png"},
        good | {"id": "empty", "question": ""},
        good | {"id": "two images", "question": "<image>\n<image> same?"},
        good | {"id": "budget", "visual_token_num": 0},
        good | {"id": "not a number", "visual_token_num": "many"},
        good | {"id": "typo", "visual_tokens": 3},
        {"id": "lacks", "image": picture.name},
        good | {"id": "path", "image": 7},
        good | {"id": "long", "image": "x" * 300},
        good | {"id": None},
        good | {"id": ["a", "list"]},
        good | {"id": "null", "question": None},
        '{"id": "digits", "seed": 1' + "0" * 5000 + "}",
        '{"id": "constant", "seed": NaN}',
        '{"id": "latin \udce9"}',
        "",
        good | {"id": "last"},
    ]
    requests, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    assert trace("--requests", requests, "--output", output) == 1
    in_order = read_lines(output)
    assert len(in_order) == len(lines) - 1  # the blank line is none
    assert [in_order[0]["id"], in_order[-1]["id"]] == ["first", "last"]
    assert [record.get("line") for record in in_order[:4]] == [None, 2, 3, None]
    records = {str(record["id"]): record for record in in_order}
    assert {i for i, record in records.items() if "out_ids" in record} == {"first", "last"}
    errors = {i: record["error"] for i, record in records.items() if "error" in record}
    assert "visual_tokens" in errors["typo"]
    assert "lacks question" in errors["lacks"]
    assert "from 1 to 576" in errors["not a number"]
    text = capsys.readouterr().err
    assert f"line 2 of {requests} is not JSON" in text
    assert f"line 3 of {requests} holds a list" in text
    assert "is not UTF-8 text" in text
    assert f"{len(lines) - 3} of {len(lines) - 1} requests failed" in text


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "--image FILE and --question TEXT"),
        (["--image", "a.png"], "--image FILE and --question TEXT"),
        (["--image", "a.png", "--question", "What?"], "there is no image a.png"),
        (["--requests", "gone.jsonl", "--output", "out.jsonl"], "there is no file gone.jsonl"),
        (["--requests", "in.jsonl"], "--requests needs --output"),
        (["--requests", "in.jsonl", "--output", "o", "--figure", "f.png"], "excludes"),
        (["--requests", "in.jsonl", "--output", "o", "--tower-question", "?"], "excludes"),
        (["--image", "picture.png", "--question", "?", "--batch-size", "2"], "no use for --batch"),
        (["--no-image", "--text-token-num", "3"], "no effect with --no-image"),
        (["--requests", "in.jsonl", "--output", "gone/out.jsonl"], "folder gone does not exist"),
        (["--requests", "in.jsonl", "--output", "."], "is a folder"),
        (["--requests", "none.jsonl", "--output", "out.jsonl"], "no requests in none.jsonl"),
        (["--requests", "in.jsonl", "--output", "/dev/null"], "not a regular file"),
        (["--image", "picture.png", "--question", "?", "--figure", "gone/f.png"], "gone does not"),
        (["--requests", "in.jsonl", "--output", "out.jsonl", "--batch-size", "0"], "at least 1"),
    ],
)
def test_mistakes_on_the_command_line(trace, picture, tmp_path, monkeypatch, capsys, flags, says):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "in.jsonl", [{"id": 1, "image": picture.name, "question": "What?"}])
    (tmp_path / "none.jsonl").write_text("\n")
    assert trace(*flags) == 2
    error = capsys.readouterr().err
    assert "error: " in error and says in error
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "flags", [["--visual-token-num", "many"], ["--no-such-flag"], ["--visual-token", "3"]]
)
def test_flags_that_are_none(trace, flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        trace(*flags)
    assert stopped.value.code == 2
    assert flags[0] in capsys.readouterr().err


def test_what_an_interrupted_run_wrote_is_not_lost(trace, picture, tmp_path, capsys):
    requests = write_lines(
        tmp_path / "in.jsonl", [{"id": 1, "image": picture.name, "question": "?"}]
    )
    (tmp_path / "out.jsonl.partial").write_text("precious")
    assert trace("--requests", requests, "--output", tmp_path / "out.jsonl") == 2
    assert "out.jsonl.partial holds" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl.partial").read_text() == "precious"


def test_a_link_stays_a_link(trace, picture, tmp_path):
    requests = write_lines(
        tmp_path / "in.jsonl", [{"id": 1, "image": picture.name, "question": "?"}]
    )
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    assert (
        trace("--requests", requests, "--output", tmp_path / "link.jsonl", "--max-new-tokens", 2)
        == 0
    )
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len(read_lines(tmp_path / "real.jsonl")) == 1


def test_an_older_output_survives_a_failed_run(trace, tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_text("precious")
    assert trace("--requests", tmp_path / "gone.jsonl", "--output", output) == 2
    assert output.read_text() == "precious"


def test_scores_that_are_not_finite_are_an_error(
    tiny_flags, picture, tmp_path, monkeypatch, load_tiny
):
    model = load_tiny()
    for weight in model.compensator.selector.parameters():
        weight.fill_(float("nan"))
    monkeypatch.setattr("llava.eval.tracing.load_from_arguments", lambda args: model)
    line = {"id": 1, "image": picture.name, "question": "?", "max_new_tokens": 2}
    requests, output = write_lines(tmp_path / "in.jsonl", [line]), tmp_path / "out.jsonl"
    assert main([*tiny_flags, "--requests", str(requests), "--output", str(output)]) == 1
    (record,) = read_lines(output)
    assert "the selector's scores are not finite" in record["error"]


def test_without_an_image_no_captions_are_loaded(
    tiny_flags, picture, tmp_path, monkeypatch, prune_only
):
    loaded = []
    monkeypatch.setattr(
        "llava.eval.tracing.load_from_arguments",
        lambda args: loaded.append(args.has_captions) or prune_only,
    )
    flags = ["--image", str(picture), "--question", "long " * 300, "--no-image"]
    assert main([*tiny_flags, *flags, "--max-new-tokens", "2"]) == 0
    assert loaded == [False]


@pytest.mark.parametrize("name", ["random", "uniform", "pool", "divprune", "visionzip"])
def test_another_pruner_chooses_the_tokens(trace, tmp_path, picture, name):
    def kept(*flags):
        out = tmp_path / "out.jsonl"
        question = ("--image", picture, "--question", "What is it?", "--max-new-tokens", 2)
        assert trace(*question, "--visual-token-num", 16, "--output", out, *flags) == 0
        (line,) = read_lines(out)
        return line["kept_idx"], line["text_idx"]

    by_accm, asked = kept()
    by_other, not_asked = kept("--pruner", name)
    assert len(by_other) == 16 and by_other != by_accm
    assert asked is not None and not_asked is None


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--pruner", "acm"], "no pruner 'acm' (did you mean accm?): use accm, none, zero, random"),
        (
            ["--compensation", "captions"],
            "no compensation 'captions' (did you mean caption?",
        ),
        (["--pruner", "random", "--text-token-num", "3"], "no effect with --pruner random"),
        (["--pruner", "random", "--no-image"], "no effect with --no-image"),
        (["--pruner-options", "k=3", "--no-image"], "no effect with --no-image"),
        (["--pruner", "trim", "--pruner-options", "K=3"], "no setting K (did you mean k?)"),
        (["--pruner", "none", "--visual-token-num", "9"], "keeps all visual tokens"),
        (["--pruner", "zero", "--visual-token-num", "9"], "keeps no visual token"),
    ],
)
def test_a_pruner_is_refused_with_what_it_has_no_use_for(trace, picture, capsys, flags, said):
    assert trace("--image", picture, "--question", "What?", *flags) == 2
    assert said in capsys.readouterr().err
