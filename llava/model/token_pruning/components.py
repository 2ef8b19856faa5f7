"""Principal components of an image's patches, which are the variables; channels are the samples."""

from __future__ import annotations

import torch
from torch import Tensor

from llava.errors import UserError, quoted


def largest_loading(samples: Tensor, count: int, pca: str = "exact", seed: int = 0) -> Tensor:
    """Returns each patch's component (B, N) int64 of largest absolute loading.

    Args:
        samples: (B, C, N).
        count: number of components.
        pca: exact, computed in float64; or lowrank, torch's random one.
        seed: of lowrank's draws, the same for each image.
    """
    if pca == "exact":
        loadings = _exact(samples.double(), count)
    else:
        with torch.random.fork_rng(devices=[]):
            loadings = torch.stack([_drawn(one, count, seed) for one in samples.cpu()])
    return loadings.abs().argmax(dim=2).to(samples.device)


def check_pca(pca: str) -> None:
    """Raises a UserError if there is no such pca."""
    if pca not in ("exact", "lowrank"):
        raise UserError(f"there is no pca {quoted(pca)}: use exact, lowrank")


def _exact(samples: Tensor, count: int) -> Tensor:
    """Returns the loadings (B, N, count), with columns of one length, of samples (B, C, N)."""
    centred = samples - samples.mean(dim=1, keepdim=True)
    if centred.shape[1] >= centred.shape[2]:
        return torch.linalg.eigh(centred.mT @ centred)[1][..., -count:].flip(-1)
    # The smaller product, over the channels, has the same components.
    loadings = centred.mT @ torch.linalg.eigh(centred @ centred.mT)[1][..., -count:].flip(-1)
    return loadings / loadings.norm(dim=1, keepdim=True).clamp(min=1e-30)


def _drawn(samples: Tensor, count: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.pca_lowrank(samples[None], q=min(count, *samples.shape))[2][0]
