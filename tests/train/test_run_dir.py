"""The output folder of a run: its settings, its length, and one run at a time."""

import fcntl
import shutil

import pytest

from llava.errors import UserError
from tests.helpers.toy_runs import StoppedData, assert_same, interrupted
from tests.helpers.toy_stage import train_toy


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


def test_two_runs_in_one_folder_refuse_each_other(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run trains into"):
            train_toy(folder)
