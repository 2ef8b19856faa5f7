"""The whole paper in one command: its plan, and its path with the mini model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llava.eval import sweep
from llava.mini import make_data

ROOT = Path(__file__).parents[1]
MINI = "checkpoints/accm-mini"


def reproduce(*flags, **settings):
    """Runs the script with this interpreter, so that nothing is set up."""
    known = {"PYTHON": sys.executable, "NPROC": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "reproduce.sh"), *flags],
        env=os.environ | known | settings,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def settings(tmp_path):
    """Two small benchmarks and one budget."""
    return {
        "MINI_DATA": str(tmp_path / "data"),
        "OUTPUT_DIR": str(tmp_path / "out"),
        "MINI_SHARE": "0.02",
        "BENCHMARKS": "pope mmvp",
        "BUDGETS": "1/16",
    }


def test_the_whole_path_with_the_mini_model_goes_on_where_it_was_stopped(
    settings, tmp_path, monkeypatch, warm_python
):
    """One run is there already, as if the script had been stopped behind it."""
    monkeypatch.chdir(ROOT)
    data = ["--out", settings["MINI_DATA"], "--parts", "eval", "--share", settings["MINI_SHARE"]]
    assert make_data.main(data) == 0
    flags = f"--model-path {MINI} --device cpu --batch-size 32 --benchmarks pope --methods full"
    places = ["--data-root", str(tmp_path / "data/eval"), "--output-dir", str(tmp_path / "out")]
    assert sweep.main([*flags.split(), *places]) == 0
    [there] = tmp_path.glob("out/pope/*-full.jsonl")
    kept = there.stat().st_mtime_ns

    status, out, err = reproduce("--mini", PYTHON=str(warm_python), **settings)
    assert status == 0, err
    assert out.count("ok   ") == 6  # the parts of the model
    assert there.stat().st_mtime_ns == kept
    assert "36 of 36 questions answered" in out and "MMVP: pair accuracy" in out
    report = (tmp_path / "out/report/report.md").read_text()
    assert "| accm-mini | full | 144 |" in report and "| accm-mini | accm | 9 |" in report
    assert "## POPE: accm-mini, 36 questions" in report and "## MMVP: accm-mini, " in report
    assert "Published and recorded numbers" in report and "LLaVA, docs/MODEL_ZOO.md" in report


@pytest.mark.parametrize(
    "flags, settings, says",
    [
        (["--fast"], {}, "there is no flag --fast"),
        (["--dry-run"], {"PYTHON": "no-python"}, "set it up first"),
    ],
)
def test_what_cannot_be_done_is_one_message(flags, settings, says):
    status, _, err = reproduce(*flags, **settings)
    assert status == 2 and says in err and len(err.splitlines()) == 1


STUB = """#!/usr/bin/env bash
# In place of Python: writes down what it is asked, and answers as the file data has it.
[ "$1" != -c ] || exit 0
[ -z "${REAL_PYTHON:-}" ] || [[ $2 != llava.benchmarks ]] || exec "$REAL_PYTHON" "$@"
cd "$(dirname "$0")"
shift
echo "$*" >>calls
case "$*" in
"llava.checkpoints verify"*) cat verdicts && [ -f weights ] ;;
"llava.checkpoints download"*) [ ! -f offline ] && touch weights ;;
"llava.benchmarks download"*) cat data && exit 3 ;;
"llava.eval.sweep"*) mkdir -p out/pope && touch out/pope/full.json && [ ! -f broken ] ;;
esac
"""


@pytest.fixture
def stub(tmp_path):
    """Steps that do nothing but tell what was asked for."""
    path = tmp_path / "python"
    path.write_text(STUB)
    path.chmod(0o755)
    (tmp_path / "verdicts").touch()
    (tmp_path / "data").write_text("ok   pope: here\nHAND flickr: a form\nok   mmvp: here\n")

    def run(*flags, **settings):
        own = {"PYTHON": str(path), "OUTPUT_DIR": str(tmp_path / "out"), "ACCEPT_TERMS": "1"}
        status, out, err = reproduce(*flags, **own | settings)
        calls = (tmp_path / "calls").read_text().splitlines()
        (tmp_path / "calls").unlink()
        return status, out, err, calls

    return run


def test_the_plan_has_sizes_and_an_estimate_with_its_source(stub, tmp_path):
    status, out, err, calls = stub("--dry-run", REAL_PYTHON=sys.executable)
    assert status == 0, err
    assert [call.split()[1] for call in calls] == ["verify", "download"]
    assert calls[1].endswith("longclip accm --checkpoints-root checkpoints --dry-run")
    assert "GQA (testdev_balanced) -> playground/data/eval/gqa: about 0.1 GB" in out
    assert "budgets 1/2 1/4 1/8 1/16 1/32: 6 runs of 50781 questions" in out
    assert "about 8.5 hours: 50781 questions x 6 runs x 0.1 s / 1 processes" in out
    assert "(SECONDS_PER_QUESTION): not measured: twice what docs/scaling.md computes" in out
    assert not (tmp_path / "out").exists()


def test_weights_are_fetched_once_and_what_is_left_by_hand_is_named(stub):
    status, out, _, calls = stub(BENCHMARKS="pope mmvp flickr")
    assert status == 3 and "left out: flickr" in out
    assert [" ".join(call.split()[:2]) for call in calls[:5]] == [
        "llava.checkpoints verify",
        "llava.checkpoints verify",
        "llava.checkpoints download",
        "llava.checkpoints verify",
        "llava.benchmarks download",
    ]
    assert calls[2].split()[2:7] == ["llava-v1.5-7b", "clip", "gpt2", "longclip", "accm"]
    assert "download pope mmvp flickr --data-root playground/data/eval --accept-terms" in calls[4]
    assert "--benchmarks pope mmvp --methods full accm --budgets 1/2 1/4 1/8 1/16 1/32" in calls[5]
    assert calls[6].startswith("llava.eval.report ") and "scripts/published.json" in calls[6]
    assert not any("checkpoints download" in call for call in stub()[3])


def test_weights_that_cannot_be_fetched_stop_it(stub, tmp_path):
    (tmp_path / "offline").touch()
    status, out, _, calls = stub()
    assert status == 1 and "== data" not in out
    assert calls[-1].startswith("llava.checkpoints download ")


def test_a_whole_model_of_ones_own_is_not_asked_of_the_hub(stub, tmp_path):
    (tmp_path / "verdicts").write_text("ok   model: here\nBAD  gpt2: missing\n")
    status, _, err, calls = stub(MODEL_PATH="/models/mine", BENCHMARKS="pope mmvp")
    assert status == 0, err
    assert calls[2].startswith("llava.checkpoints download clip gpt2 longclip accm ")


def test_a_model_elsewhere_that_is_not_whole_is_one_message(stub):
    status, _, err, calls = stub(MODEL_PATH="/models/llava-v1.5-7b")
    assert status == 2 and "no whole model in /models/llava-v1.5-7b" in err
    assert len(err.splitlines()) == 1 and {call.split()[1] for call in calls} == {"verify"}


def test_a_run_without_any_result_is_not_reported(stub, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/pope").touch()  # nothing can be written there
    status, _, err, calls = stub(BENCHMARKS="pope")
    assert status == 1 and "not all runs are whole" in err
    assert calls[-1].startswith("llava.eval.sweep ")


def test_without_data_nothing_is_answered(stub, tmp_path):
    (tmp_path / "data").write_text("BAD  mmvp: no way to the hub\n")
    status, out, err, calls = stub(BENCHMARKS="mmvp")
    assert status == 1 and "of no benchmark all data are there" in err
    assert "BAD  mmvp: no way to the hub" in out and "sweep" not in calls[-1]


def test_a_run_that_is_not_whole_is_reported_all_the_same(stub, tmp_path):
    (tmp_path / "broken").touch()
    status, _, err, calls = stub(BENCHMARKS="pope mmvp")
    assert status == 1 and "the same command goes on" in err
    assert calls[-1].startswith("llava.eval.report ")


def test_several_processes(stub, tmp_path):
    (tmp_path / "weights").touch()
    *_, calls = stub("--mini", NPROC="2")
    assert calls[2].startswith(
        "torch.distributed.run --standalone --nproc_per_node 2 -m llava.eval"
    )
