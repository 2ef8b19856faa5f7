"""The samples of a step, as a pure function of seed and step: nothing to save for a resume."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch


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
