"""Schedules are transformers'; parts learn at their own rates."""

import pytest
import torch
from transformers import get_scheduler

from llava.train.arguments import TrainArguments
from llava.train.step import build_optimiser, schedule_factor, set_learning_rates, trainable
from tests.helpers.toy_stage import Toy


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedules_are_those_of_transformers(schedule):
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler = get_scheduler(theirs, optimiser, num_warmup_steps=3, num_training_steps=10)
    for step in range(10):
        ours = schedule_factor(schedule, step, warmup=3, steps=10)
        assert ours == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimiser.step()
        scheduler.step()


def test_parts_have_their_own_learning_rate_and_only_matrices_decay():
    parameters = trainable(Toy())
    args = TrainArguments(learning_rate=1e-3, weight_decay=0.1)
    optimiser = build_optimiser(parameters, args, [("head.", 1e-5)])
    set_learning_rates(optimiser, 0.5)
    names = {id(parameter): name for name, parameter in parameters.items()}
    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    assert found == {
        "body.0.weight": (5e-4, 0.1),
        "body.0.bias": (5e-4, 0.0),
        "head.weight": (5e-6, 0.1),
        "head.bias": (5e-6, 0.0),
        "unused": (5e-4, 0.0),
    }


def test_a_prefix_without_parameters_is_a_mistake():
    with pytest.raises(ValueError, match="frozen."):
        build_optimiser(trainable(Toy()), TrainArguments(), [("frozen.", 1e-5)])


def test_what_has_16_bits_cannot_be_trained():
    with pytest.raises(ValueError, match="must be float32"):
        trainable(Toy().half())
