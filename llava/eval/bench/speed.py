"""Measures the speed of a machine, from which times are predicted."""

from __future__ import annotations

import time

import torch

from llava.eval.bench.prediction import Machine
from llava.model.products.forms import pack, packed_linear


def measure_machine(device: torch.device, dtype: torch.dtype, packs: bool = False) -> Machine:
    """Times a product of large matrices, and one of a vector with matrices too large for caches.

    Args:
        device, dtype: device and dtype of the matrices.
        packs: whether to time packed matrices too; the faster product counts.
    """
    on_gpu = device.type == "cuda"
    n, rows, number = (16384, 4096, 4) if on_gpu else (4096, 576, 16)
    weights = [torch.full((n, n), 0.01, device=device, dtype=dtype) for _ in range(number)]
    many = torch.full((rows, n), 0.01, device=device, dtype=dtype)
    product = _best_seconds(lambda: [many @ w.T for w in weights[:4]], device) / 4
    if packs:
        packed = [pack(w) for w in weights[:4]]
        work = lambda: [packed_linear(many, w, None) for w in packed]  # noqa: E731
        product = min(product, _best_seconds(work, device) / 4)
    reading = _best_seconds(lambda: [many[:1] @ w.T for w in weights], device)
    return Machine(
        operations=2 * rows * n * n / product,
        bandwidth=sum(w.nbytes for w in weights) / reading,
    )


def _best_seconds(work, device: torch.device, repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return min(times)


def synchronise(device: torch.device) -> None:
    """Waits until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
