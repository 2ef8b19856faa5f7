"""Batches are made ahead, in order, and do not depend on who makes them."""

import threading

import pytest
import torch

from llava.train.arguments import Plan
from llava.train.batches import micro_batches, prefetch
from tests.helpers.toy_stage import ToyData


def test_one_is_made_while_another_is_in_use():
    begun = [threading.Event() for _ in range(3)]

    def make(number):
        begun[number].set()
        return number

    made = prefetch(make, range(3))
    assert next(made) == 0
    assert begun[1].wait(5)
    assert list(made) == [1, 2]


def test_a_failure_comes_out_in_its_place():
    made = prefetch(lambda number: 1 // number, [2, 1, 0, 3])
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_processes_share_the_micro_batches_of_one():
    def made(processes, rank, first_step=0):
        plan = Plan(steps=3, batch_size=8, micro_batch_size=2, processes=processes)
        return list(micro_batches(ToyData(), plan, 0, first_step, rank))

    alone, first, second = made(1, 0), made(2, 0), made(2, 1)
    assert len(alone) == 12
    for one, other in zip(alone, [m for pair in zip(first, second) for m in pair]):
        assert (one.indices, one.seed) == (other.indices, other.seed)
        assert torch.equal(one.batch.x, other.batch.x)
    assert [m.indices for m in made(1, 0, first_step=2)] == [m.indices for m in alone[8:]]
