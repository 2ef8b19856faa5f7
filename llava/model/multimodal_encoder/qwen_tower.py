"""The vision tower of Qwen2.5-VL (arXiv 2502.13923), at the native resolution of every image.

transformers' own tower is composed, not changed. Its patches attend inside windows, in a few blocks
to the whole image, and four of them become one token of the LLM. There is no CLS token: the
attention that a token receives in the last block of whole images says how salient it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    apply_rotary_pos_emb_vision,
)

from llava.mm_utils import send
from llava.model.backbones.pixels import Patches
from llava.model.multimodal_encoder.layer_values import HIPRUNE_LAYER, VSCAN_LAYER, layer_of
from llava.model.multimodal_encoder.visual_tokens import (
    Needs,
    View,
    VisualTokens,
    each_of,
    fields_of,
)

# The values that the tower can compute. Those of a CLS token are the attention that tokens receive.
GIVEN = Needs.HEAD_ATTENTION | Needs.MIDDLE_HEAD_ATTENTION | Needs.RECEIVED | Needs.MIDDLE_RECEIVED
_PER_HEAD = Needs.HEAD_ATTENTION | Needs.MIDDLE_HEAD_ATTENTION
# Attention weights in memory at once, 256 MB: a large image has 10,000 patches and more.
_MOST_WEIGHTS = 1 << 26

BlockInput = tuple[Tensor, tuple[Tensor, Tensor]]  # hidden states (S, C); cosines and sines (S, d)


class QwenTower(nn.Module):
    """Qwen2.5-VL's vision tower, which encodes each image in a pass of its own.

    Args:
        vision: transformers' tower, with the merger of four patches to a token.
    """

    def __init__(self, vision: Qwen2_5_VisionTransformerPretrainedModel) -> None:
        super().__init__()
        self.vision = vision

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.vision.patch_embed.proj.weight.device

    @property
    def body(self) -> nn.Module:
        """The module whose matrix products have a form; see llava.model.products.forms."""
        return self.vision

    def use_cuda_graphs(self) -> None:
        """Changes nothing: images have too many sizes for graphs of fixed shapes."""

    def forward(
        self, images: Sequence[Patches], needs: Needs = Needs.NOTHING
    ) -> list[VisualTokens]:
        """Encodes images.

        Args:
            images: B of them, patches (n, d) with the grid (1, rows, columns) of patches.
            needs: values of GIVEN to compute in addition to the features.

        Returns:
            Their visual tokens, row by row: N is a quarter of the patches.
        """
        return [self._encode(image, needs) for image in images]

    def _encode(self, image: Patches, needs: Needs) -> VisualTokens:
        merge = self.vision.spatial_merge_size
        _, rows, columns = image.shape
        view = View(0, rows // merge, columns // merge)
        wanted = each_of(needs & GIVEN)
        blocks = [self._block_of(need) for need in wanted]
        with _inputs_of(self.vision.blocks, set(blocks)) as inputs:
            out = self.vision(
                send(image.values, self.device), send([list(image.shape)], self.device)
            )
        by_window = {number: self._received(number, *inputs[number]) for number in inputs}
        order = window_order(view, self.vision.window_size // merge // self.vision.patch_size)
        place = send(order.argsort(), self.device)
        # There is no CLS token: the column that others have for it is zero.
        of_block = {
            number: torch.cat([heads.new_zeros(len(heads), 1), heads[:, place]], dim=1)
            for number, heads in by_window.items()
        }
        values = [
            of_block[n] if need in _PER_HEAD else of_block[n].mean(dim=0)
            for need, n in zip(wanted, blocks)
        ]
        named = dict(zip(fields_of(needs & GIVEN), values))
        return VisualTokens(out.pooler_output, grids=(view,), **named)

    def _block_of(self, need: Needs) -> int:
        """Returns the block of whole images, counted from 0, whose attention is a value."""
        whole = sorted(self.vision.fullatt_block_indexes)
        published = {
            Needs.MIDDLE_HEAD_ATTENTION: VSCAN_LAYER,
            Needs.MIDDLE_RECEIVED: HIPRUNE_LAYER,
        }
        if need not in published:
            return whole[-1]
        wanted = layer_of(published[need], len(self.vision.blocks)) - 1
        return min(whole, key=lambda number: abs(number - wanted))

    def _received(self, number: int, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Returns the attention (H, N) float32 that each token receives in a block.

        It is the mean over the queries and over the four patches of a token.

        Args:
            number: of a block of whole images.
            hidden: (S, C), what the block reads.
            rotary: the cosines and sines of its patches' positions.
        """
        block, length = self.vision.blocks[number], len(hidden)
        mixed = block.attn.qkv(block.norm1(hidden)).view(length, 3, block.attn.num_heads, -1)
        queries, keys, _ = mixed.unbind(1)
        queries, keys = apply_rotary_pos_emb_vision(queries, keys, *rotary)
        queries, keys = (each.transpose(0, 1).float() for each in (queries, keys))  # (H, S, d)
        total = torch.zeros(keys.shape[:2], device=keys.device)
        for some in queries.split(max(1, _MOST_WEIGHTS // total.numel()), dim=1):
            total += (some @ keys.mT * block.attn.scaling).softmax(dim=-1).sum(dim=1)
        return (total / length).unflatten(1, (-1, self.vision.spatial_merge_unit)).mean(dim=2)


@contextmanager
def _inputs_of(blocks: nn.ModuleList, numbers: set[int]) -> Iterator[dict[int, BlockInput]]:
    """Collects what some blocks of the tower read, while it runs inside."""
    found: dict[int, BlockInput] = {}

    def note(number: int, args: tuple, kwargs: dict) -> None:
        found[number] = args[0], kwargs["position_embeddings"]

    handles = [
        blocks[number].register_forward_pre_hook(
            lambda _, args, kwargs, number=number: note(number, args, kwargs), with_kwargs=True
        )
        for number in sorted(numbers)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def window_order(view: View, side: int) -> Tensor:
    """Returns the tokens of a grid in the order in which the tower reads them: window by window.

    Args:
        view: the grid.
        side: of a window, in tokens; windows at the right and lower edges may be smaller.

    Returns:
        (N,) int64, indices of tokens.
    """
    rows, columns = torch.arange(view.rows) // side, torch.arange(view.columns) // side
    window = rows[:, None] * (-(-view.columns // side)) + columns
    return window.flatten().argsort(stable=True)
