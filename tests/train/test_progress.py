"""The loss that is shown is a mean of the last steps, however often the run was interrupted."""

import io
import json
import re

import pytest

from llava.errors import UserError
from llava.train import progress
from llava.train.progress import Progress, describe_loss, draw_losses, read_losses
from tests.helpers.toy_stage import train_toy


@pytest.mark.parametrize(
    "losses, told",
    [
        ([8.0], "loss 8.0000 (mean of 1 steps)"),
        ([8.0, 1.0], "loss 4.5000 (mean of 2 steps)"),
        ([1000.0] + [2.0] * 50 + [4.0] * 50, "loss 3.0000 (mean of 100 steps)"),
    ],
)
def test_the_loss_that_is_shown_is_a_mean(losses, told):
    assert describe_loss(losses) == told


def shown(folder, steps, losses, monkeypatch):
    """What the bar of a run says at last."""
    stream = io.StringIO()
    monkeypatch.setattr(progress.sys, "stderr", stream)
    told = Progress("toy", folder, steps, steps + len(losses), 1)
    for number, loss in enumerate(losses, start=steps + 1):
        told.report(number, {"loss": loss})
    told.close()
    return re.findall(r"loss [^\]]*", stream.getvalue())[-1]


def test_a_run_that_goes_on_shows_what_an_undisturbed_one_does(tmp_path, monkeypatch):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    losses = [1 / (1 + step) for step in range(150)]
    whole = shown(tmp_path / "whole", 0, losses, monkeypatch)
    shown(tmp_path / "parts", 0, losses[:70], monkeypatch)
    shown(tmp_path / "parts", 60, losses[60:120], monkeypatch)  # the checkpoint was at step 60
    parts = shown(tmp_path / "parts", 120, losses[120:], monkeypatch)
    assert whole == parts == describe_loss(losses[50:])
    assert list(read_losses(tmp_path / "parts" / "loss.jsonl").values()) == losses


def test_the_curve_has_each_loss_and_the_mean(tmp_path, monkeypatch):
    losses = [float(step % 7) for step in range(1, 131)]
    lines = [{"step": n, "loss": loss} for n, loss in enumerate(losses, start=1)]
    (tmp_path / "loss.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = []
    from matplotlib.axes import Axes

    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, **how: drawn.append((x, y)) or plot(self, x, y, **how)
    )
    draw_losses(tmp_path / "loss.jsonl", tmp_path / "loss.png", "toy")
    (steps, each), (same_steps, means) = drawn
    assert list(steps) == list(same_steps) == list(range(1, 131)) and list(each) == losses
    assert means[0] == losses[0] and means[1] == pytest.approx(sum(losses[:2]) / 2)
    assert means[-1] == pytest.approx(sum(losses[-100:]) / 100)


@pytest.mark.parametrize(
    "damage", ["{", '{"step": "1", "loss": "2"}', '{"step": 3}', "[]", "1", "\xff"]
)
def test_a_damaged_log_is_one_line(tmp_path, damage):
    train_toy(tmp_path, max_steps=4, schedule="constant")
    log = tmp_path / "loss.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[1] = damage.encode("latin-1") + b"\n"
    log.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=r"loss.jsonl.* (line 2 is damaged: delete|is not UTF-8)"):
        train_toy(tmp_path, max_steps=6, schedule="constant")
    assert log.read_bytes() == b"".join(lines)
