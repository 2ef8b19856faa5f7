"""PruneSID: groups by principal components, without redundant patches (arXiv 2603.09480)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import (
    check_budget,
    check_setting,
    cosines,
    falling,
)
from llava.model.token_pruning.components import check_pca, largest_loading


@dataclass(frozen=True)
class PruneSidOptions:
    """The settings of PruneSID.

    Attributes:
        pca: exact, or lowrank as in the authors' code: a random method, whose draws also depend on
            the version of torch.
        seed: the seed of lowrank's draws, the same for each image; None: the sample's, or 0 without
            one.
    """

    pca: str = "exact"
    seed: int | None = None

    def __post_init__(self) -> None:
        check_pca(self.pca)
        check_setting("seed", self.seed or 0, 0, 2**63 - 1)


def prunesid(
    x: Mapping[str, Tensor], budget: int | None, settings: PruneSidOptions
) -> list[Choice]:
    """Keeps the CLS token, and in every group the patches not similar to more attended ones.

    The output has K tokens: first the CLS token, then group after group.

    Args:
        x: ``attn_cls`` (B, H, N+1), ``hidden`` (B, N+1, C).
        budget: K, from 1 to N.
        settings: see PruneSidOptions.

    Raises:
        UserError: the budget cannot be met.
    """
    patches = x["hidden"][:, 1:]
    budget = check_budget(budget, patches.shape[1])
    num_groups = max(1, budget // 4)
    group = largest_loading(patches.sigmoid().mT, num_groups, settings.pca, settings.seed or 0)
    similarity = cosines(patches.float())
    num_patches = patches.shape[1]
    pairs = max(1, num_patches * (num_patches - 1))
    threshold = budget / 32 * (similarity.sum(dim=(1, 2)) - num_patches) / pairs
    order = falling(x["attn_cls"][..., 1:].sum(dim=1))
    survives = _survivors(similarity > threshold[:, None, None], group, order)
    choices = []
    for b, ranked in enumerate(order):
        groups = [ranked[group[b, ranked] == g] for g in range(num_groups)]
        alive = [survives[b, members] for members in groups]
        quotas = _quotas(
            torch.tensor([len(members) for members in groups]),
            torch.tensor([int(one.sum()) for one in alive]),
            budget,
        )
        sorted_groups = [torch.cat([m[a], m[~a]]) for m, a in zip(groups, alive)]
        cls = torch.full((1,), -1, device=ranked.device)
        kept = torch.cat([cls, *(m[:quota] for m, quota in zip(sorted_groups, quotas.tolist()))])
        choices.append(Choice(kept, kept))
    return choices


def _survivors(is_like: Tensor, group: Tensor, order: Tensor) -> Tensor:
    """Returns (B, N) bool: True if a patch is similar to no more attended survivor of its group.

    Each round decides for all patches at once, with the survivors of the round before, until
    nothing changes: as many rounds as the longest chain of similar patches.
    """
    rank = order.argsort(dim=1)
    before = rank[:, None, :] < rank[:, :, None]
    suppresses = is_like & before & (group[:, None, :] == group[:, :, None])
    survives = torch.ones_like(group, dtype=torch.bool)
    while True:
        now = ~(suppresses & survives[:, None, :]).any(dim=2)
        if torch.equal(now, survives):
            return now
        survives = now


def _quotas(sizes: Tensor, survivors: Tensor, budget: int) -> Tensor:
    """Returns how many patches (groups,) int64 each group keeps: K - 1 in all."""
    wanted = budget - 1
    low = sizes.clamp(max=min(1, wanted))
    most = torch.minimum(torch.minimum(sizes, survivors), torch.tensor(5 * -(-budget // 64)))
    while most.sum() < budget and (most < sizes).any():
        most = torch.minimum(most + 1, sizes)
    others = max(0, budget - int(low.sum()) - 1)
    ends = ((survivors / survivors.sum()).cumsum(0) * others).round().long()
    quotas = torch.minimum(low + ends.diff(prepend=ends.new_zeros(1)), most)
    by_survivors = falling(survivors)
    room = (most - quotas)[by_survivors]
    missing = wanted - int(quotas.sum())
    filled = torch.minimum(room, (missing - (room.cumsum(0) - room)).clamp(min=0))
    return quotas.index_add(0, by_survivors, filled)
