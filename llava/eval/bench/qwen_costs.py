"""Operations and bytes of Qwen2.5-VL's stages, as formulas of its shape."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from llava.eval.bench.arguments import PRUNE
from llava.eval.bench.methods import Case
from llava.eval.bench.prediction import Pass, bytes_read
from llava.model.llava_arch import LlavaAccm
from llava.model.shapes import QwenShape


class QwenCosts:
    """The passes of each stage; see CostModel.

    Args:
        model: defines the shapes.
        shape: has the grid of an image.
        num_text: tokens of the prompt without the visual ones.
        answer_length: tokens of each answer.
    """

    def __init__(
        self, model: LlavaAccm, shape: QwenShape, num_text: int, answer_length: int
    ) -> None:
        self._vision, self._llm = model.tower.vision, model.language_model.llm
        rows, columns = shape.grid
        self._num_patches = rows * columns * self._vision.spatial_merge_unit
        self._num_text = num_text
        self._answer_length = answer_length

    def stages(self, case: Case) -> dict[str, list[Pass]]:
        """Returns the passes of a case, for its whole batch."""
        encode = self._encode()
        if case.method == PRUNE:  # the attention that tokens receive
            n, width = self._num_patches, self._vision.config.hidden_size
            encode += 2 * n * width * (n + 3 * width)
        weights = bytes_read(self._llm.model.layers)
        words = case.visual_token_num + self._num_text
        prefill = self._read(words, 0)
        decode = [self._read(1, words + step) for step in range(self._answer_length - 1)]
        return {
            "encode": [Pass(case.batch_size * encode, bytes_read(self._vision))],
            "prefill": [Pass(case.batch_size * prefill, weights)],
            "decode": [Pass(case.batch_size * one, weights) for one in decode],
        }

    def operations(self, case: Case) -> float:
        """Returns the operations of all stages, for the whole batch."""
        return sum(one.operations for passes in self.stages(case).values() for one in passes)

    def cache_bytes(self, case: Case) -> int:
        """Returns the size of the LLM's keys and values at the end, for the whole batch."""
        config = self._llm.config
        positions = case.visual_token_num + self._num_text + self._answer_length - 1
        width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
        size = 2 * config.num_hidden_layers * width * self._llm.dtype.itemsize
        return case.batch_size * positions * size

    def _encode(self) -> float:
        """Returns the operations of the vision tower for one image, as torch computes it."""
        config, n = self._vision.config, self._num_patches
        window = (config.window_size // config.patch_size) ** 2
        whole = len(config.fullatt_block_indexes)
        pairs = n * (whole * n + (config.depth - whole) * min(window, n))
        matrices = n * _matrices(self._vision.blocks, self._vision.patch_embed)
        matrices += n // self._vision.spatial_merge_unit * _matrices(self._vision.merger)
        return 2 * matrices + 4 * pairs * config.hidden_size

    def _read(self, num_new: int, past: int) -> float:
        """Returns the LLM's operations for a piece of one sequence, with one token's logits."""
        config = self._llm.config
        pairs = num_new * (num_new + past) * config.num_hidden_layers
        matrices = num_new * _matrices(self._llm.model.layers)
        matrices += config.vocab_size * config.hidden_size
        return 2 * matrices + 4 * pairs * config.hidden_size


def ceiling(costs: QwenCosts, cases: Sequence[Case]) -> dict[str, float]:
    """Returns how many times fewer operations each pruned case has than the same with all tokens.

    Args:
        costs: of the model.
        cases: with all tokens and pruned.
    """
    most = max(case.visual_token_num for case in cases)
    return {
        str(case): costs.operations(Case(case.method, most, case.batch_size))
        / costs.operations(case)
        for case in cases
        if case.method == PRUNE
    }


def _matrices(*modules: nn.Module) -> int:
    """Returns the number of weights of the matrices in modules."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.ndim > 1)
