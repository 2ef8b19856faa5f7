"""One optimiser step: its gradient, its weight, what is not finite, and numbers of 16 bits."""

import json
import math
import shutil

import pytest
import torch
from transformers import get_scheduler

from llava.errors import UserError
from llava.train.batches import sample_indices
from tests.helpers.toy_runs import assert_same, losses
from tests.helpers.toy_stage import SAMPLES, Toy, ToyData, train_toy


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


def plain_adamw(max_grad_norm):
    """What a run comes to by torch's and transformers' own means, one pass a step.

    Returns:
        The net, and loss and norm of the gradient, before it is cut, of each step.
    """
    toy, data = Toy(dropout=0.0).double(), ToyData(noise=0.0)
    data.x = data.x.double()
    parameters = [parameter for parameter in toy.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.02)
    scheduler = get_scheduler("linear", optimiser, num_warmup_steps=2, num_training_steps=24)
    log = []
    for step in range(24):
        batch = data.collate(sample_indices(SAMPLES, 8, step, 0), None)
        optimiser.zero_grad()
        loss = toy(batch)["loss"] / batch.weight
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm or math.inf)
        optimiser.step()
        scheduler.step()
        log.append((loss.item(), norm.item()))
    return toy, log


@pytest.mark.parametrize("max_grad_norm", [0.0, 3.0])
def test_a_run_is_adamw_on_the_weighted_mean_with_its_gradient_cut(tmp_path, max_grad_norm):
    """The weights of the batches differ, and some of the gradients are longer than the limit."""
    expected, log = plain_adamw(max_grad_norm)
    norms = [norm for _, norm in log]
    assert min(norms) < 3 < max(norms)
    data = ToyData(noise=0.0)
    data.x = data.x.double()
    toy = train_toy(
        tmp_path / "out",
        data,
        Toy(dropout=0.0).double(),
        max_grad_norm=max_grad_norm,
        weight_decay=0.1,
    )
    lines = [json.loads(line) for line in (tmp_path / "out/loss.jsonl").read_text().splitlines()]
    found = [(line["loss"], line["grad_norm"]) for line in lines]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(log), rtol=1e-9, atol=0)
    for parameter, other in zip(toy.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=0, atol=1e-11)


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
