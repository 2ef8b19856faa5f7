"""Wrong arguments are refused with the flag named; right ones come to a plan."""

from dataclasses import fields

import pytest

from llava.errors import UserError
from llava.train.arguments import TrainArguments, check_arguments, make_plan
from llava.utils.flags import FlagParser


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"output_dir": None, "max_steps": 1}, "--output-dir"),
        ({}, "one of --max-steps and --epochs"),
        ({"max_steps": 1, "epochs": 1.0}, "one of --max-steps and --epochs"),
        ({"max_steps": 0}, "--max-steps is 0: it must be at least 1"),
        ({"epochs": 0.0}, "--epochs is 0.0: it must be above 0"),
        ({"max_steps": 1, "schedule": "step"}, "linear, cosine, constant"),
        ({"max_steps": 1, "mixed_precision": "fp8"}, "no, bf16, fp16"),
        ({"max_steps": 1, "device": "tpu"}, "auto, cpu, cuda"),
        ({"max_steps": 1, "beta2": 1.0}, "--beta2 is 1.0: it must be below 1"),
        ({"max_steps": 1, "learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"max_steps": 1, "keep_checkpoints": 0}, "--keep-checkpoints is 0"),
    ],
)
def test_wrong_arguments_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        check_arguments(TrainArguments(**({"output_dir": "out"} | fields)))


def test_epochs_come_to_whole_steps():
    plan = make_plan(TrainArguments("out", epochs=1.5, batch_size=8), samples=50, processes=2)
    assert (plan.steps, plan.micro_batch_size, plan.micro_batches) == (10, 4, 2)


def test_a_batch_that_cannot_be_split_is_refused():
    args = TrainArguments("out", max_steps=1, batch_size=12, micro_batch_size=4)
    with pytest.raises(UserError, match="multiple of 8, or choose another --micro-batch-size"):
        make_plan(args, samples=50, processes=2)
    with pytest.raises(UserError, match="no samples"):
        make_plan(args, samples=0, processes=1)


def test_the_number_of_processes_is_no_setting():
    args = TrainArguments("out", max_steps=1, batch_size=12, micro_batch_size=2)
    alone, shared = (make_plan(args, 50, count).settings() for count in (1, 3))
    assert alone == shared


def test_every_field_is_a_flag():
    parser = FlagParser(TrainArguments, "x", "x")
    args = parser.read(
        "--output-dir out --epochs 1.5 --micro-batch-size 4 --learning-rate 3e-4".split()
    )
    assert args == TrainArguments("out", epochs=1.5, micro_batch_size=4, learning_rate=3e-4)
    text = parser.format_help()
    assert all(f"  --{f.name.replace('_', '-')} " in text for f in fields(TrainArguments))
