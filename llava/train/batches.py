"""The data that a stage gives to the training loop, and micro batches made ahead of their use.

The samples of a step are a pure function of seed and step: nothing is saved for a resume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Protocol, TypeVar

import torch
from accelerate.utils import send_to_device

from llava.train.arguments import Plan

Key = TypeVar("Key")
Made = TypeVar("Made")
Tensors = TypeVar("Tensors", bound="TensorBatch")


@dataclass(frozen=True)
class TensorBatch:
    """A base of batches of samples, whose fields are tensors, or hold some, or go to no device."""

    @property
    def weight(self) -> float:
        """How much the batch counts: the number of samples, the items of the first field."""
        return len(getattr(self, fields(self)[0].name))

    def to(self: Tensors, device: torch.device) -> Tensors:
        """Returns the batch on a device."""
        moved = {f.name: send_to_device(getattr(self, f.name), device) for f in fields(self)}
        return replace(self, **moved)


class Data(Protocol):
    """The samples of a stage."""

    def __len__(self) -> int:
        """Returns the number of samples."""

    def collate(self, indices: list[int], generator: torch.Generator) -> TensorBatch:
        """Returns a batch of samples.

        All its randomness comes from the generator: it is called from a thread of its own, beside
        the forward pass.
        """

    def describe(self, indices: list[int]) -> str:
        """Returns the samples' names for an error message."""


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward pass, and the seed of its noise."""

    indices: list[int]
    seed: int
    batch: TensorBatch


def micro_batches(
    data: Data, plan: Plan, seed: int, first_step: int, rank: int
) -> Generator[MicroBatch, None, None]:
    """Yields the micro batches of one process, step after step, each made ahead of its use.

    Args:
        data: the samples.
        plan: the split of a step.
        seed: of the run.
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


def prefetch(make: Callable[[Key], Made], keys: Iterable[Key]) -> Generator[Made, None, None]:
    """Yields make(key) for each key, in order; a thread makes the next one while one is in use.

    Exceptions of make are raised in place of its result.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = None
        for key in keys:
            coming, ready = thread.submit(make, key), coming
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


def stream_seed(*names: object) -> int:
    """Returns a 63-bit seed for the random stream of that name; similar names are independent."""
    digest = hashlib.sha256(" ".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def sample_indices(num_samples: int, batch_size: int, step: int, seed: int) -> list[int]:
    """Returns the samples of one step.

    Each epoch is a permutation of its own; batches continue across its end, so that all are full.

    Args:
        num_samples: number of samples, at least 1.
        batch_size: number of samples to return.
        step: number of the step, from 0.
        seed: decides the permutations.

    Returns:
        batch_size indices below num_samples.
    """
    indices: list[int] = []
    position = step * batch_size
    while len(indices) < batch_size:
        epoch, start = divmod(position, num_samples)
        part = _permutation(num_samples, epoch, seed)[start : start + batch_size - len(indices)]
        indices += part.tolist()
        position += len(part)
    return indices


@lru_cache(maxsize=1)  # steps go through one epoch after the other
def _permutation(num_samples: int, epoch: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(stream_seed(seed, "order", epoch))
    return torch.randperm(num_samples, generator=generator)
