"""Settings of the scripts: heeded or refused; the names of answers. A recorder is Python here."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENCODER = "llava/model/multimodal_encoder/clip_encoder.py"
RECORDER = '#!/usr/bin/env bash\necho "$*" >>"$(dirname "$0")/calls"\n'


@pytest.fixture
def tree(tmp_path):
    """The scripts, the file with the constant, and run(SCRIPT, *flags, **settings)."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / ENCODER).parent.mkdir(parents=True)
    shutil.copy(ROOT / ENCODER, tmp_path / ENCODER)
    python = tmp_path / "python"
    python.write_text(RECORDER)
    python.chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(python)
    return tmp_path


@pytest.fixture
def run(tree):
    def run(script, *flags, **settings):
        (tree / "calls").write_text("")
        done = subprocess.run(
            ["bash", f"scripts/{script}", *flags],
            cwd=tree,
            env={"PATH": os.environ["PATH"], "PYTHON": str(tree / "python")} | settings,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr, (tree / "calls").read_text().splitlines()

    return run


def value(call, flag):
    words = call.split()
    return words[len(words) - words[::-1].index(flag)]


def set_constant(tree, line):
    text = (tree / ENCODER).read_text()
    (tree / ENCODER).write_text(text.replace("VISUAL_TOKEN_NUM = 36", line))


YES, NO = ("1", "true", "yes", "True"), ("", "0", "false", "no", "FALSE")


@pytest.mark.parametrize("word, is_on", [(w, True) for w in YES] + [(w, False) for w in NO])
def test_a_switch_is_yes_or_no(run, word, is_on):
    status, err, (_, score) = run("v1_5/eval/pope.sh", ALLOW_MISSING=word)
    assert status == 0, err
    assert ("--allow-missing" in score.split()) == is_on
    status, _, (_, score) = run("v1_5/eval/mmbench.sh", UPLOAD=word)
    assert status == 0 and ("--upload" in score.split()) == is_on


@pytest.mark.parametrize(
    "script, flags, settings, says",
    [
        ("v1_5/eval/pope.sh", [], {"ALLOW_MISSING": "maybe"}, "ALLOW_MISSING is 'maybe': say 1"),
        ("v1_5/eval/all.sh", [], {"ALLOW_MISSING": "2"}, "ALLOW_MISSING is '2'"),
        ("v1_5/eval/mmbench.sh", [], {"UPLOAD": "x"}, "UPLOAD is 'x'"),
        ("reproduce.sh", [], {"ACCEPT_TERMS": "ok"}, "ACCEPT_TERMS is 'ok'"),
        ("v1_5/eval/pope.sh", [], {"NPROC": "two"}, "NPROC is 'two': say a number"),
        ("quickstart.sh", [], {"NPROC": "0"}, "NPROC is '0'"),
        ("v1_5/train/caption.sh", [], {"NPROC": "-1"}, "NPROC is '-1'"),
        ("v1_5/train/mini.sh", [], {"NPROC": "1.5"}, "NPROC is '1.5'"),
        ("v1_5/eval/pope.sh", [], {"LIMIT": "0"}, "LIMIT is '0': say a number from 1 on"),
        ("v1_5/eval/pope.sh", ["--limit", "-2"], {}, "LIMIT is '-2'"),
        ("v1_5/eval/all.sh", [], {"LIMIT": "ten"}, "LIMIT is 'ten'"),
        ("v1_5/eval/pope.sh", [], {"UPLOAD": "1"}, "UPLOAD has no effect on pope"),
        ("v1_5/eval/all.sh", [], {"DATA_DIR": "d"}, "DATA_DIR has no effect on all benchmarks"),
        ("v1_5/eval/all.sh", [], {"ANSWERS_FILE": "a"}, "ANSWERS_FILE has no effect on all"),
        ("reproduce.sh", ["--mini"], {"DATA_ROOT": "d"}, "DATA_ROOT has no effect with --mini"),
        ("reproduce.sh", [], {"MINI_SHARE": "1"}, "MINI_SHARE has no effect without --mini"),
        (
            "reproduce.sh",
            ["--mini"],
            {"MINI_SHARE": "1/2"},
            "MINI_SHARE is '1/2': say 1, or a part",
        ),
        ("v1_5/eval/pope.sh", ["--data-dir", "d"], {}, "set DATA_DIR=..."),
        ("v1_5/eval/pope.sh", ["--answers_file=a"], {}, "set ANSWERS_FILE=..."),
    ],
)
def test_what_has_no_meaning_or_no_effect_is_one_line(run, script, flags, settings, says):
    status, err, calls = run(script, *flags, **settings)
    assert (status, calls) == (2, [])
    assert err.startswith("error: ") and says in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("share, end", [("1", ""), ("0.1", "-0.1"), ("", "")])
def test_a_part_of_the_mini_benchmarks_leaves_the_whole_alone(run, share, end):
    """Which the quickstart has drawn, and an earlier reproduction answered."""
    status, err, calls = run("reproduce.sh", "--mini", MINI_SHARE=share)
    assert status == 0, err
    (made,), (swept,) = (
        [c for c in calls if name in c] for name in ("make_data", "llava.eval.sweep")
    )
    assert value(made, "--out") == f"playground/data/mini{end}"
    assert value(made, "--share") == (share or "1")
    assert value(swept, "--data-root") == f"playground/data/mini{end}/eval"
    assert value(swept, "--output-dir") == f"outputs/reproduce-mini{end}"


def test_all_benchmarks_heed_what_is_set(run):
    settings = {"BENCHMARKS": "pope mmbench", "OUTPUT_DIR": "mine", "UPLOAD": "yes"}
    status, err, calls = run("v1_5/eval/all.sh", **settings)
    assert status == 0, err
    files = [value(call, "--answers-file") for call in calls]
    assert files == [
        f"mine/{name}/llava-v1.5-7b-36.jsonl" for name in ("pope", "pope", "mmbench", "mmbench")
    ]
    assert [("--upload" in call) for call in calls] == [False, False, False, True]


@pytest.mark.parametrize(
    "line", ["VISUAL_TOKEN_NUM = 9", "VISUAL_TOKEN_NUM=9  # mine", "VISUAL_TOKEN_NUM: int = 9"]
)
def test_an_edited_budget_starts_a_second_file(run, tree, line):
    _, _, (first, _) = run("v1_5/eval/pope.sh")
    assert value(first, "--answers-file") == "outputs/pope/llava-v1.5-7b-36.jsonl"
    set_constant(tree, line)
    _, _, (second, score) = run("v1_5/eval/pope.sh")
    assert value(second, "--answers-file") == "outputs/pope/llava-v1.5-7b-9.jsonl"
    assert value(second, "--visual-token-num") == "9"
    assert value(score, "--json") == "outputs/pope/llava-v1.5-7b-9.json"


def test_a_budget_that_is_no_plain_number_is_asked_for(run, tree):
    set_constant(tree, "VISUAL_TOKEN_NUM = 576 // 16")
    status, err, calls = run("v1_5/eval/pope.sh")
    assert (status, calls) == (2, []) and "set VISUAL_TOKEN_NUM=..." in err
    assert run("v1_5/eval/pope.sh", VISUAL_TOKEN_NUM="36")[0] == 0


@pytest.mark.parametrize(
    "flags, settings, name",
    [
        ([], {"VISUAL_TOKEN_NUM": "72"}, "llava-v1.5-7b-72"),
        (["--visual-token-num", "72"], {}, "llava-v1.5-7b-72"),
        (["--visual_token_num=72"], {"VISUAL_TOKEN_NUM": "18"}, "llava-v1.5-7b-72"),
        ([], {"TEXT_TOKEN_NUM": "5"}, "llava-v1.5-7b-36-5"),
        (["--no-image"], {}, "llava-v1.5-7b-no-image"),
        ([], {"CKPT_NAME": "floor"}, "floor"),
        ([], {"MODEL_PATH": "/models/mine"}, "mine-36"),
        ([], {"LIMIT": "10"}, "llava-v1.5-7b-36-limit10"),
        (["--limit", "10"], {"LIMIT": "5", "TEXT_TOKEN_NUM": "5"}, "llava-v1.5-7b-36-5-limit10"),
        (["--limit=10", "--no-image"], {}, "llava-v1.5-7b-no-image-limit10"),
        ([], {"CKPT_NAME": "floor", "LIMIT": "10"}, "floor-limit10"),
    ],
)
def test_the_name_has_the_budget_however_it_is_set(run, flags, settings, name):
    status, err, (answer, score) = run("v1_5/eval/pope.sh", *flags, **settings)
    assert status == 0, err
    assert value(answer, "--answers-file") == f"outputs/pope/{name}.jsonl"
    assert value(score, "--answers-file") == f"outputs/pope/{name}.jsonl"


def test_a_limit_is_handed_on_and_nothing_is_written_for_a_server(run):
    settings = {"BENCHMARKS": "pope mmbench", "LIMIT": "10", "UPLOAD": "1"}
    status, err, calls = run("v1_5/eval/all.sh", **settings)
    assert status == 0, err
    assert [value(call, "--limit") for call in calls[::2]] == ["10", "10"]
    assert not any("--upload" in call or "--limit " in call for call in calls[1::2])
    assert run("v1_5/eval/pope.sh")[2][0].count("--limit") == 0


@pytest.mark.parametrize(
    "older, budget, settings, flags, expected",
    [
        ("llava-v1.5-7b", (36, 20), {}, [], "llava-v1.5-7b"),
        ("llava-v1.5-7b", (9, 6), {}, [], "llava-v1.5-7b-36"),
        ("llava-v1.5-7b", (72, 40), {}, ["--visual-token-num", "72"], "llava-v1.5-7b"),
        ("llava-v1.5-7b-36", (36, 5), {"TEXT_TOKEN_NUM": "5"}, [], "llava-v1.5-7b-36"),
        ("llava-v1.5-7b-36", (36, 20), {"TEXT_TOKEN_NUM": "5"}, [], "llava-v1.5-7b-36-5"),
        ("llava-v1.5-7b", (0, 20), {}, ["--no-image"], "llava-v1.5-7b"),
        ("llava-v1.5-7b", (36, 20), {}, ["--no-image"], "llava-v1.5-7b-no-image"),
        ("llava-v1.5-7b", (36, 20), {"LIMIT": "10"}, [], "llava-v1.5-7b-36-limit10"),
    ],
)
def test_answers_under_an_older_name_are_found(run, tree, older, budget, settings, flags, expected):
    folder = tree / "outputs" / "pope" / f"{older}.jsonl.run"
    folder.mkdir(parents=True)
    content = {"method": "accm", "visual_token_num": budget[0], "text_token_num": budget[1]}
    (folder / "settings.json").write_text(json.dumps(content | {"seed": 42}, indent=2))
    _, _, (answer, _) = run("v1_5/eval/pope.sh", *flags, **settings)
    assert value(answer, "--answers-file") == f"outputs/pope/{expected}.jsonl"
