"""Whole runs: interrupted, spread over processes, gone wrong; they end as an undisturbed one."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llava.errors import UserError
from llava.train.order import sample_indices
from tests.helpers import toy_stage
from tests.helpers.toy_stage import SAMPLES, Toy, ToyData, train_toy

TOY = toy_stage.__file__
ROOT = Path(__file__).parents[2]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "loss.jsonl").read_text().splitlines()]


def final_weights(folder):
    return (folder / "step-00000024" / "model.safetensors").read_bytes()


def assert_same(folder, other):
    assert (folder / "loss.jsonl").read_bytes() == (other / "loss.jsonl").read_bytes()
    assert final_weights(folder) == final_weights(other)


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


def test_accumulation_is_one_big_batch(tmp_path):
    """Without noise, which belongs to micro batches; in float64, to tell rounding from mistakes."""
    weights, logs = [], []
    for micro in (8, 2):
        data = ToyData(noise=0.0)
        data.x = data.x.double()
        toy = train_toy(
            tmp_path / str(micro), data, Toy(dropout=0.0).double(), micro_batch_size=micro
        )
        weights.append(torch.cat([p.detach().flatten() for p in toy.parameters()]))
        logs.append(torch.tensor(losses(tmp_path / str(micro))))
    torch.testing.assert_close(*weights, rtol=0, atol=1e-12)
    torch.testing.assert_close(*logs, rtol=0, atol=1e-12)


class Weighed(Toy):
    """Its loss counts as much as its batch is near, all of it: as --margins batch has it."""

    def forward(self, batch):
        sums = super().forward(batch)
        return {"loss": sums["loss"], "batch_weight": 3 * batch.y[:, 0].abs().sum()}


class WeighedAtOnce(Toy):
    """The same by hand, of one forward pass."""

    def forward(self, batch):
        mean = 3 * batch.y[:, 0].abs().sum() / batch.weight
        return {"loss": mean * super().forward(batch)["loss"]}


def test_a_weight_of_the_batch_is_that_of_the_whole_batch(tmp_path):
    """However many forward passes it takes: in float64 they differ by rounding alone."""
    found = {}
    for kind, micro in ((WeighedAtOnce, 8), (Weighed, 8), (Weighed, 2), (Weighed, 1)):
        data = ToyData(noise=0.0)
        data.x = data.x.double()
        folder = tmp_path / f"{kind.__name__}-{micro}"
        toy = train_toy(folder, data, kind(dropout=0.0).double(), micro_batch_size=micro)
        weights = torch.cat([p.detach().flatten() for p in toy.parameters()])
        found[kind, micro] = (weights, torch.tensor(losses(folder)))
    expected_weights, expected_losses = found.pop((WeighedAtOnce, 8))
    for weights, logged in found.values():
        torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-11)
        torch.testing.assert_close(logged, expected_losses, rtol=1e-11, atol=1e-11)


def test_two_processes_do_what_one_does(tmp_path, undisturbed):
    """Though the second of them cannot read a sample, and they go on when it can."""
    folder = tmp_path / "out"
    bad = sample_indices(SAMPLES, 8, 5, 0)[2]  # first met in step 6, by the second process
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(TOY), str(folder), f"unreadable_at={bad}"],
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"error: sample {bad} cannot be read") == 2
    assert losses(folder) == pytest.approx(losses(undisturbed), abs=1e-5)


def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path, undisturbed):
    folder = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, str(TOY), str(folder)], env=ONE_THREAD, stderr=subprocess.DEVNULL
    )
    while not (folder / "step-00000005").is_dir():
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "step-00000024").exists()
    train_toy(folder)
    assert_same(folder, undisturbed)


def interrupted(undisturbed, folder):
    """A copy of a run without its last checkpoint."""
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "step-00000024")
    return folder


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


def test_other_settings_are_refused_and_named(tmp_path, undisturbed):
    folder = interrupted(undisturbed, tmp_path / "out")
    with pytest.raises(UserError) as caught:
        train_toy(folder, learning_rate=0.5, settings={"data": "other"})
    assert "data was 'toy', now 'other'; learning_rate was 0.02, now 0.5" in str(caught.value)
    assert "another --output-dir, or delete this one" in str(caught.value)
    train_toy(folder, log_every=3, keep_checkpoints=1, save_every=2)  # of no consequence
    assert_same(folder, undisturbed)
    assert len(list(folder.glob("step-*"))) == 1


def assert_planned_so(folder, planned):
    """As a run of 24 steps from the start, in every byte that a later stage or run reads."""
    assert_same(folder, planned)
    names = ("settings.json", "step-00000024/optimizer.pt")
    assert all((folder / name).read_bytes() == (planned / name).read_bytes() for name in names)


@pytest.fixture(scope="module")
def constant(tmp_path_factory):
    """24 steps at a constant rate."""
    folder = tmp_path_factory.mktemp("constant") / "out"
    train_toy(folder, schedule="constant")
    return folder


@pytest.mark.parametrize("longer", [{"max_steps": 24}, {"max_steps": None, "epochs": 24 * 8 / 50}])
def test_a_longer_run_at_a_constant_rate_is_the_one_planned_so(tmp_path, capsys, constant, longer):
    folder = tmp_path / "out"
    train_toy(folder, schedule="constant", max_steps=13)
    train_toy(folder, schedule="constant", **longer)
    assert "13 of 24 steps done before; going on" in capsys.readouterr().out
    assert_planned_so(folder, constant)


def test_an_interrupted_run_can_be_made_shorter_or_longer(tmp_path, constant):
    """Planned for 100 and stopped after 10; what is behind the checkpoint counts for nothing."""
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):  # in step 13
        train_toy(folder, StoppedData(50), schedule="constant", max_steps=100)
    train_toy(folder, schedule="constant")
    assert_planned_so(folder, constant)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_within_the_warm_up_every_plan_is_the_same(tmp_path, schedule):
    fields = {"schedule": schedule, "warmup_steps": 6, "save_every": 99}
    train_toy(tmp_path / "planned", **fields)
    train_toy(tmp_path / "out", max_steps=7, **fields)
    train_toy(tmp_path / "out", **fields)
    assert_planned_so(tmp_path / "out", tmp_path / "planned")
    train_toy(tmp_path / "behind", max_steps=8, **fields)
    with pytest.raises(
        UserError, match=f"With --schedule {schedule} .* give --max-steps 8, or name"
    ):
        train_toy(tmp_path / "behind", **fields)


def test_another_length_is_refused_with_the_reason(tmp_path, undisturbed, constant):
    shutil.copytree(undisturbed, tmp_path / "linear")
    shutil.copytree(constant, tmp_path / "constant")
    before = (tmp_path / "linear" / "settings.json").read_bytes()
    with pytest.raises(UserError) as caught:
        train_toy(tmp_path / "linear", max_steps=48)
    assert "max_steps was 24, now 48. With --schedule linear the learning rate" in str(caught.value)
    assert "the 24 steps that are done are not those of a run of 48" in str(caught.value)
    assert "delete" not in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "linear" / "settings.json").read_bytes() == before
    for name, schedule in (("linear", "linear"), ("constant", "constant")):
        with pytest.raises(UserError, match="24 steps are done, and none can be taken back"):
            train_toy(tmp_path / name, max_steps=10, schedule=schedule)
    with pytest.raises(UserError, match="beta2 was 0.999, now 0.9. Name another"):
        train_toy(tmp_path / "constant", max_steps=48, schedule="constant", beta2=0.9)
    with pytest.raises(UserError, match="schedule was 'linear', now 'constant'"):
        train_toy(tmp_path / "linear", max_steps=48, schedule="constant")


class StoppedData(ToyData):
    """Ctrl-C comes when the micro batch of that number is made."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def collate(self, indices, generator):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().collate(indices, generator)


@pytest.mark.parametrize("number, kept", [(50, "10 of 24 steps are kept in "), (10, None)])
def test_ctrl_c_tells_how_much_is_kept(tmp_path, number, kept):
    with pytest.raises(KeyboardInterrupt) as caught:
        train_toy(tmp_path / "out", StoppedData(number))
    told = caught.value.kept
    assert told == (kept and f"{kept}{tmp_path / 'out'}")


def test_a_loss_that_is_not_finite_names_the_batch_and_keeps_the_checkpoint(tmp_path, undisturbed):
    folder = tmp_path / "out"
    bad = sample_indices(SAMPLES, 8, 5, 0)[4]
    with pytest.raises(UserError) as caught:
        train_toy(folder, ToyData(broken_at=bad))
    neighbours = sample_indices(SAMPLES, 8, 5, 0)[4:6]
    assert f"step 6: the loss is nan for samples {neighbours[0]}, {neighbours[1]}." in str(
        caught.value
    )
    assert "--learning-rate" in str(caught.value)
    train_toy(folder)  # the sample is mended
    assert_same(folder, undisturbed)


class Steep(Toy):
    """Its loss is finite; its gradient is not."""

    def forward(self, batch):
        return {"loss": (self.unused - 1).abs().sqrt().sum()}


def test_a_gradient_that_is_not_finite_is_not_followed(tmp_path):
    toy = Steep()
    with pytest.raises(UserError, match="step 1: the gradient's norm is (nan|inf) for samples"):
        train_toy(tmp_path / "out", objective=toy)
    assert torch.equal(toy.unused, torch.ones(2))


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


def test_two_runs_in_one_folder_refuse_each_other(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run trains into"):
            train_toy(folder)


def test_parts_learn_at_their_own_rates(tmp_path):
    before, after = Toy(), train_toy(tmp_path / "out", groups=[("body.", 0.0)])
    assert torch.equal(before.body[0].weight, after.body[0].weight)
    assert not torch.equal(before.head.weight, after.head.weight)


def test_sixteen_bits(tmp_path, undisturbed):
    train_toy(tmp_path / "out", mixed_precision="bf16")
    assert losses(tmp_path / "out") == pytest.approx(losses(undisturbed), rel=0.1)


class Loud(Toy):
    """Its gradients are larger than what the first scale of fp16 lets through."""

    def forward(self, batch):
        return {name: 100 * value for name, value in super().forward(batch).items()}


def test_a_scale_too_high_for_fp16_is_lowered_and_kept_for_a_resume(tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    fields = {"mixed_precision": "fp16", "save_every": 2, "keep_checkpoints": 99}
    train_toy(whole, objective=Loud(), **fields)
    log = [json.loads(line) for line in (whole / "loss.jsonl").read_text().splitlines()]
    assert log[0]["grad_norm"] is None
    assert all(line["grad_norm"] for line in log[-5:])
    shutil.copytree(whole, resumed)
    for path in resumed.glob("step-*"):
        if path.name > "step-00000004":
            shutil.rmtree(path)
    train_toy(resumed, objective=Loud(), **fields)
    assert_same(whole, resumed)
