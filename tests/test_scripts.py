"""Settings of the scripts: heeded or refused; the names of answers. A recorder is Python here."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from llava.eval.sweep import parse_budget

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
    (tmp_path / "playground" / "data" / "eval").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(python)
    return tmp_path


@pytest.fixture
def run(tree):
    def run(script, *flags, **settings):
        (tree / "calls").write_text("")
        done = run_script(tree, script, *flags, **settings)
        return done.returncode, done.stderr, (tree / "calls").read_text().splitlines()

    return run


def run_script(tree, script, *flags, **settings):
    return subprocess.run(
        ["bash", f"scripts/{script}", *flags],
        cwd=tree,
        env={"PATH": os.environ["PATH"], "PYTHON": str(tree / "python")} | settings,
        capture_output=True,
        text=True,
    )


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
        ("v1_5/train/mini_next.sh", [], {"IMAGES": "all"}, "IMAGES is 'all'"),
        ("v1_5/eval/pope.sh", [], {"LIMIT": "0"}, "LIMIT is '0': say a number from 1 on"),
        ("v1_5/eval/pope.sh", ["--limit", "-2"], {}, "LIMIT is '-2'"),
        ("v1_5/eval/all.sh", [], {"LIMIT": "ten"}, "LIMIT is 'ten'"),
        ("v1_5/eval/all.sh", [], {"BATCH_SIZE": "x"}, "BATCH_SIZE is 'x'"),
        ("v1_5/eval/all.sh", [], {"NPROC": "0"}, "NPROC is '0'"),
        ("v1_5/eval/all.sh", [], {"BENCHMARKS": "pope popee"}, "BENCHMARKS has 'popee'"),
        ("v1_5/eval/all.sh", [], {"BENCHMARKS": "benchmark"}, "BENCHMARKS has 'benchmark'"),
        ("v1_5/eval/all.sh", [], {"PYTHON": "nowhere"}, "PYTHON is 'nowhere', and there is no"),
        ("v1_5/eval/pope.sh", [], {"PYTHON": "nowhere"}, ": scripts/setup.sh sets one up"),
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
        ("reproduce.sh", ["--mini"], {"MINI_SHARE": ".0"}, "MINI_SHARE is '.0'"),
        ("reproduce.sh", ["--mini"], {"MINI_SHARE": "0.000"}, "MINI_SHARE is '0.000'"),
        ("v1_5/compare.sh", [], {"COSTS": "maybe"}, "COSTS is 'maybe': say 1"),
        ("v1_5/compare.sh", [], {"BENCHMARKS": "pope vqa"}, "BENCHMARKS has 'vqa'"),
        ("v1_5/compare.sh", [], {"LIMIT": "all"}, "LIMIT is 'all'"),
        ("v1_5/compare.sh", [], {"MINI_DATA": "d"}, "MINI_DATA has no effect without --mini"),
        ("v1_5/compare.sh", ["--mini"], {"DATA_ROOT": "d"}, "DATA_ROOT has no effect with --mini"),
        ("v1_5/compare.sh", [], {"VISUAL_TOKEN_NUM": "9"}, "which has BUDGETS"),
        ("v1_5/eval/pope.sh", ["--data-dir", "d"], {}, "set DATA_DIR=..."),
        ("v1_5/eval/pope.sh", ["--answers_file=a"], {}, "set ANSWERS_FILE=..."),
    ],
)
def test_what_has_no_meaning_or_no_effect_is_one_line(run, script, flags, settings, says):
    status, err, calls = run(script, *flags, **settings)
    assert (status, calls) == (2, [])
    assert err.startswith("error: ") and says in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "script, stages, seeds",
    [
        (
            "mini",
            "clip llava projector llava llava caption long_clip scene_graph selector compensation",
            {"3"},
        ),
        ("mini_next", "llava llava caption selector", {"3", "4"}),
    ],
)
def test_the_stages_of_a_mini_model_run_in_order(run, script, stages, seeds):
    status, err, calls = run(f"v1_5/train/{script}.sh", NPROC="1", SEED="3", WORK="w")
    assert status == 0, err
    runs = [call for call in calls if call.startswith("-m llava.train.train_")]
    found = [call.split()[1].removeprefix("llava.train.train_") for call in runs]
    assert found == stages.split()
    folders = [value(call, "--output-dir") for call in runs]
    assert len(set(folders)) == len(folders) and all(f.startswith("w/runs/") for f in folders)
    assert {value(call, "--seed") for call in runs} == seeds


@pytest.mark.parametrize("share, end", [("1", ""), ("0.1", "-0.1"), (".10", "-0.1"), ("", "")])
def test_a_part_of_the_mini_benchmarks_leaves_the_whole_alone(run, share, end):
    """Which the quickstart has drawn, and an earlier reproduction answered."""
    status, err, calls = run("reproduce.sh", "--mini", MINI_SHARE=share)
    assert status == 0, err
    (made,), (swept,) = (
        [c for c in calls if name in c] for name in ("make_data", "llava.eval.sweep")
    )
    assert value(made, "--out") == f"playground/data/mini{end}"
    assert value(made, "--share") == (end[1:] or "1")
    assert value(swept, "--data-root") == f"playground/data/mini{end}/eval"
    assert value(swept, "--output-dir") == f"outputs/reproduce-mini{end}"


def test_a_comparison_has_its_usual_budgets(run):
    """192, 128 and 64 of 576; 36, 18 and 9 of 144, with data that are drawn first."""
    status, err, (call,) = run("v1_5/compare.sh", "--dtype", "float16", LIMIT="5")
    assert status == 0, err
    assert "--methods accm --pruners all --compensations none --budgets 1/3 2/9 1/9 " in call
    assert "--limit 5 --costs " in call and call.endswith("/report --dtype float16")
    assert [parse_budget(word, 576) for word in ("1/3", "2/9", "1/9")] == [192, 128, 64]
    settings = {"PRUNERS": "pool random", "METHODS": "", "COSTS": "no", "NPROC": "1"}
    status, err, (made, call) = run("v1_5/compare.sh", "--mini", **settings)
    assert status == 0, err
    assert value(made, "--out") + "/eval" == value(call, "--data-root")
    assert "--pruners pool random --compensations none --budgets 1/4 1/8 1/16 " in call
    assert "--methods" not in call and "--costs" not in call


def test_all_benchmarks_heed_what_is_set(run):
    settings = {"BENCHMARKS": "pope mmbench", "OUTPUT_DIR": "mine", "UPLOAD": "yes"}
    status, err, calls = run("v1_5/eval/all.sh", **settings)
    assert status == 0, err
    files = [value(call, "--answers-file") for call in calls]
    assert files == [
        f"mine/{name}/llava-v1.5-7b-36.jsonl" for name in ("pope", "pope", "mmbench", "mmbench")
    ]
    assert [("--upload" in call) for call in calls] == [False, False, False, True]


SAME = """echo "error: the number is 0" >&2; exit 2"""
OWN = """case "$*" in *answer\\ gqa*) echo "error: no data of gqa" >&2; exit 2 ;; esac"""
EACH = """echo "error: no data of $3" >&2; exit 2"""
LAUNCHER = """[ $2 = llava.eval.score ] && echo "error: no $5" >&2 && exit 2
echo "error: the number is 0" >&2; echo "error: the number is 0" >&2; exit 1"""
LATER = """case "$*" in *mmbench*) exit 0 ;; esac; echo "error: the disk is full" >&2; exit 2"""
RECOVERS = """[ $2 = llava.eval.score ] && exit 0
echo "error: a worker fell" >&2; [ $3 != pope ] || exit 2"""
QUESTIONS = """echo "error: question 1: no image" >&2; exit 1"""


@pytest.mark.parametrize(
    "fails, said, failed, tried",
    [
        (SAME, ["the number is 0"], "pope mmvp gqa", ["pope", "mmvp"]),
        (OWN, ["no data of gqa"], "gqa", ["pope", "mmvp", "gqa"]),
        (EACH, [f"no data of {n}" for n in ("pope", "mmvp", "gqa")], "pope mmvp gqa", None),
        (LAUNCHER, ["the number is 0"], "pope mmvp gqa", ["pope", "mmvp"]),
        (QUESTIONS, ["question 1: no image"] * 3, "pope mmvp gqa", None),
    ],
    ids=["same", "own", "each", "launcher", "questions"],
)
def test_what_keeps_all_benchmarks_is_said_once(run, tree, fails, said, failed, tried):
    (tree / "python").write_text(RECORDER + fails)
    status, err, calls = run("v1_5/eval/all.sh", BENCHMARKS="pope mmvp gqa")
    *errors, last = err.splitlines()
    assert status == 1 and errors == [f"error: {line}" for line in said]
    assert last.startswith(f"error: not finished: {failed}; ")
    answered = [call.split()[2] for call in calls if "llava.eval.answer" in call]
    assert answered == (tried or ["pope", "mmvp", "gqa"])
    assert ("the rest was not tried" in last) == (answered == ["pope", "mmvp"])


@pytest.mark.parametrize(
    "settings, folder", [({}, "playground/data/eval"), ({"DATA_ROOT": "/no where"}, "/no where")]
)
def test_a_folder_of_data_that_is_not_there_is_said_once(run, tree, settings, folder):
    """As in a fresh clone; with the command that fetches them."""
    (tree / "playground" / "data" / "eval").rmdir()
    (tree / "python").write_text(RECORDER + EACH)
    status, err, calls = run("v1_5/eval/all.sh", BENCHMARKS="pope mmvp gqa", **settings)
    assert status == 1 and len(calls) == 1 and f"--data-root {folder} --" in calls[0]
    first, last = err.splitlines()
    assert first == "error: no data of pope"
    assert last.startswith("error: not finished: pope mmvp gqa; the rest was not tried, as there")
    assert last.endswith("; then the same command goes on where they stopped")
    fetch = re.search(r"(\S+) -m llava.benchmarks (download all --data-root .*) fills it", last)
    assert fetch[1] == str(tree / "python") and shlex.split(fetch[2])[-1] == folder


def test_a_benchmark_that_ends_well_does_not_keep_the_others(run, tree):
    """Whatever it says: here each one has the same trouble, and only the first fails of it."""
    (tree / "python").write_text(RECORDER + RECOVERS)
    status, err, calls = run("v1_5/eval/all.sh", BENCHMARKS="pope mmvp gqa")
    assert status == 1 and err.count("error: a worker fell") == 2  # once, and as it came at gqa
    assert len(calls) == 5
    assert err.splitlines()[-1] == (
        "error: not finished: pope; the same command goes on where they stopped"
    )


def test_once_a_benchmark_is_finished_the_others_are_all_tried(run, tree):
    """The settings were right then: whatever fails later may be over at the next one."""
    (tree / "python").write_text(RECORDER + LATER)
    settings = {"BENCHMARKS": "mmbench pope mmvp gqa"}
    status, err, _ = run("v1_5/eval/all.sh", **settings)
    assert status == 1 and err.count("error: the disk is full") == 3
    assert err.splitlines()[-1].startswith("error: not finished: pope mmvp gqa; the same command")


@pytest.mark.parametrize(
    "line",
    [
        "VISUAL_TOKEN_NUM = 9",
        "VISUAL_TOKEN_NUM=9  # mine",
        "VISUAL_TOKEN_NUM: int = 9",
        "VISUAL_TOKEN_NUM: int | str = 9",
    ],
)
def test_an_edited_budget_starts_a_second_file(run, tree, line):
    _, _, (first, _) = run("v1_5/eval/pope.sh")
    assert value(first, "--answers-file") == "outputs/pope/llava-v1.5-7b-36.jsonl"
    set_constant(tree, line)
    _, _, (second, score) = run("v1_5/eval/pope.sh")
    assert value(second, "--answers-file") == "outputs/pope/llava-v1.5-7b-9.jsonl"
    assert value(second, "--visual-token-num") == "9"
    assert value(score, "--json") == "outputs/pope/llava-v1.5-7b-9.json"


@pytest.mark.parametrize("line", ['VISUAL_TOKEN_NUM = "1/9"', "VISUAL_TOKEN_NUM: str = '1/9' # a"])
def test_the_constant_may_be_a_share(run, tree, line):
    set_constant(tree, line)
    _, _, (answer, score) = run("v1_5/eval/pope.sh")
    assert value(answer, "--answers-file") == "outputs/pope/llava-v1.5-7b-1of9.jsonl"
    assert value(answer, "--visual-token-num") == "1/9"
    assert value(score, "--json") == "outputs/pope/llava-v1.5-7b-1of9.json"


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
        ([], {"VISUAL_TOKEN_NUM": "1/9"}, "llava-v1.5-7b-1of9"),
        (["--visual-token-num=11%"], {"TEXT_TOKEN_NUM": "5"}, "llava-v1.5-7b-11pct-5"),
        (["--visual-token-num", "all"], {}, "llava-v1.5-7b-all"),
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


def write_mini_config(tree, tiles):
    (tree / "model").mkdir()
    ratio = "anyres" if tiles else "pad"
    (tree / "model" / "config.json").write_text(json.dumps({"image_aspect_ratio": ratio}, indent=2))


@pytest.mark.parametrize("tiles, scale, data", [(False, "1", "mini"), (True, "2", "mini-2x")])
def test_a_mini_model_with_tiles_gets_pictures_of_twice_the_resolution(
    run, tree, tiles, scale, data
):
    write_mini_config(tree, tiles)
    for script in ("v1_5/compare.sh", "reproduce.sh"):
        status, err, calls = run(script, "--mini", MODEL_PATH="model")
        assert status == 0, err
        (made,) = (call for call in calls if "llava.mini.make_data" in call)
        assert value(made, "--scale") == scale
        assert value(made, "--out") == f"playground/data/{data}"
        (swept, *_) = (call for call in calls if "llava.eval.sweep" in call)
        assert value(swept, "--data-root") == f"playground/data/{data}/eval"
    assert value(swept, "--output-dir") == f"outputs/reproduce-{data}"
    done = run_script(tree, "reproduce.sh", "--mini", "--dry-run", MODEL_PATH="model")
    assert ("0.08 s a question" in done.stdout) == tiles, done.stderr


@pytest.mark.parametrize(
    "tiles, scale, budgets", [(False, "1", "36 18 9"), (True, "2", "72 36 18")]
)
def test_the_quickstart_of_a_model_with_tiles(run, tree, tiles, scale, budgets):
    write_mini_config(tree, tiles)
    (tree / "scripts" / "setup.sh").write_text("")  # nothing to be set up
    status, err, _ = run("quickstart.sh", MODEL_PATH="model", NPROC="1")
    assert status == 0, err
    calls = (tree / ".venv" / "bin" / "calls").read_text().splitlines()
    (made,) = (call for call in calls if "llava.mini.make_data" in call)
    (swept,) = (call for call in calls if "llava.eval.sweep" in call)
    assert value(made, "--scale") == scale and f"--budgets {budgets} --" in swept
    assert value(swept, "--data-root") == f"{value(made, '--out')}/eval"
