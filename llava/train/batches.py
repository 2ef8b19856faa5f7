"""What a stage gives to the training loop, and how micro batches are made ahead of their use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from llava.train.arguments import Plan
from llava.train.order import sample_indices, stream_seed

Key = TypeVar("Key")
Made = TypeVar("Made")


class Batch(Protocol):
    """Samples as tensors."""

    weight: float  # how much the batch counts: its tokens, or its samples

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""


class Data(Protocol):
    """The samples of a stage."""

    def __len__(self) -> int:
        """How many samples there are."""

    def collate(self, indices: list[int], generator: torch.Generator) -> Batch:
        """A batch of samples. All its randomness comes from the generator: it is called from a
        thread of its own, beside the forward pass."""

    def describe(self, indices: list[int]) -> str:
        """The samples' names for an error message."""


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward pass, and the seed of its noise."""

    indices: list[int]
    seed: int
    batch: Batch


def micro_batches(
    data: Data, plan: Plan, seed: int, first_step: int, rank: int
) -> Iterator[MicroBatch]:
    """The micro batches of one process, step after step, each made ahead of its use.

    Args:
        data: the samples.
        plan: how a step is split.
        seed: the run's.
        first_step: number of the first step, from 0.
        rank: number of the process; it takes every plan.processes-th micro batch.
    """

    def make(key: tuple[int, int]) -> MicroBatch:
        step, number = key
        indices = sample_indices(len(data), plan.batch_size, step, seed)
        own = indices[number * plan.micro_batch_size :][: plan.micro_batch_size]
        generator = torch.Generator().manual_seed(stream_seed(seed, "data", step, number))
        batch = data.collate(own, generator)
        return MicroBatch(own, stream_seed(seed, "forward", step, number), batch)

    keys = (
        (step, number)
        for step in range(first_step, plan.steps)
        for number in range(rank, plan.micro_batches, plan.processes)
    )
    return prefetch(make, keys)


def prefetch(make: Callable[[Key], Made], keys: Iterable[Key]) -> Iterator[Made]:
    """make(key) for each key, in order, the next one made in a thread while one is in use.

    What make raises comes out where its result would.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = None
        for key in keys:
            coming, ready = thread.submit(make, key), coming
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()
