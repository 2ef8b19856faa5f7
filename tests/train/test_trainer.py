"""Whole runs: interrupted, spread over processes, gone wrong; they end as an undisturbed one."""

import json
import resource
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file

from llava.errors import UserError
from llava.train.batches import sample_indices
from tests.helpers.processes import run_together, start
from tests.helpers.toy_runs import StoppedData, assert_same, interrupted, losses
from tests.helpers.toy_stage import SAMPLES, train_toy

TOY = "tests.helpers.toy_stage"


def test_a_run_learns_and_leaves_its_reports(undisturbed):
    lines = [json.loads(line) for line in (undisturbed / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert set(lines[0]) == {"step", "loss", "near", "learning_rate", "grad_norm"}
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0]["learning_rate"] == 0 and lines[2]["learning_rate"] == 0.02
    assert list((undisturbed / "tensorboard").iterdir())
    assert (undisturbed / "loss.png").read_bytes().startswith(b"\x89PNG")
    names = sorted(path.name for path in undisturbed.glob("step-*"))
    assert names == ["step-00000020", "step-00000024"]
    saved = load_file(undisturbed / "step-00000024" / "model.safetensors")
    assert set(saved) == {"body.0.weight", "body.0.bias", "head.weight", "head.bias", "unused"}


def test_two_processes_do_what_one_does(tmp_path, undisturbed):
    """Though the second of them cannot read a sample, and they go on when it can."""
    folder = tmp_path / "out"
    bad = sample_indices(SAMPLES, 8, 5, 0)[2]  # first met in step 6, by the second process
    log, words = tmp_path / "log", [str(folder), f"unreadable_at={bad}"]
    statuses = run_together(2, TOY, words, log)
    said = [path.read_text() for path in (log, tmp_path / "log.1")]
    assert statuses == [0, 0], said
    assert [text.count(f"error: sample {bad} cannot be read") for text in said] == [1, 1]
    assert losses(folder) == pytest.approx(losses(undisturbed), abs=1e-5)


def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path, undisturbed):
    folder = tmp_path / "out"
    process = start(TOY, [str(folder)], tmp_path / "log")
    while not (folder / "step-00000005").is_dir():
        assert process.is_alive()
        time.sleep(0.005)
    time.sleep(0.1)
    process.kill()
    process.join()
    assert not (folder / "step-00000024").exists()
    train_toy(folder)
    assert_same(folder, undisturbed)


@pytest.mark.parametrize("cut", [0, 1, 150, 10**6])
def test_a_log_cut_anywhere_is_continued(tmp_path, undisturbed, cut):
    """As a kill between any two bytes leaves it, with what it had begun to write."""
    folder = interrupted(undisturbed, tmp_path / "out")
    log = (folder / "loss.jsonl").read_bytes()
    counted_on = sum(map(len, log.splitlines(keepends=True)[:20]))
    (folder / "loss.jsonl").write_bytes(log[: max(counted_on, len(log) - cut)])
    (folder / "writing-step-00000024").mkdir()
    (folder / "writing-step-00000024" / "model.safetensors").write_bytes(b"half")
    train_toy(folder)
    assert_same(folder, undisturbed)
    assert not list(folder.glob("writing-*"))


def test_a_finished_run_only_says_so(tmp_path, undisturbed, capsys):
    folder = tmp_path / "out"
    shutil.copytree(undisturbed, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "lock"}
    toy = train_toy(folder)
    assert "all 24 steps are done already" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "lock"}
    assert {path: after[path] for path in before if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }
    saved = load_file(folder / "step-00000024" / "model.safetensors")
    assert torch.equal(toy.head.weight, saved["head.weight"])


@pytest.mark.parametrize("number, kept", [(50, "10 of 24 steps are kept in "), (10, None)])
def test_ctrl_c_tells_how_much_is_kept(tmp_path, number, kept):
    with pytest.raises(KeyboardInterrupt) as caught:
        train_toy(tmp_path / "out", StoppedData(number))
    told = caught.value.kept
    assert told == (kept and f"{kept}{tmp_path / 'out'}")


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, undisturbed):
    """A limit on the size of files stands for the disk: it breaks a write in the middle."""
    folder = interrupted(undisturbed, tmp_path / "out")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3500, hard))
    try:
        with pytest.raises(UserError, match="make room or write elsewhere"):
            train_toy(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    train_toy(folder)
    assert_same(folder, undisturbed)
