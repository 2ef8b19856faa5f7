"""The caption model: dropped visual tokens and a question in, GPT-2 input embeddings out.

ClipCap's transformer mapper in front of GPT-2 (arXiv 2508.01236). The names of
the modules are the keys of the published file.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.pytorch_utils import Conv1D

from llava.mm_utils import send

MAPPER_HEADS = 8
MAPPER_MLP_RATIO = 2


class MapperAttention(nn.Module):
    """Attention of the last Q of M positions over all M; no bias on queries, keys and values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_queries = nn.Linear(width, width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, num_queries: int) -> Tensor:
        """Attends from the last Q positions of (B, M, D) to all; returns (B, Q, D)."""
        queries = self.to_queries(x[:, -num_queries:])
        keys, values = self.to_keys_values(x).chunk(2, dim=-1)
        heads = [
            t.unflatten(-1, (MAPPER_HEADS, -1)).transpose(1, 2) for t in (queries, keys, values)
        ]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return self.project(attended.transpose(1, 2).flatten(2))


class MapperMLP(nn.Module):
    """Two linear layers, (..., D) to (..., D) through twice the width, with ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MAPPER_MLP_RATIO * width)
        self.fc2 = nn.Linear(MAPPER_MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., D) to (..., D)."""
        return self.fc2(F.relu(self.fc1(x)))


class MapperLayer(nn.Module):
    """One pre-norm transformer layer, from (B, M, D) to the last Q positions (B, Q, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = MapperAttention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MapperMLP(width)

    def forward(self, x: Tensor, mask: Tensor | None, num_queries: int) -> Tensor:
        """Maps (B, M, D) to the last Q positions (B, Q, D)."""
        x = x[:, -num_queries:] + self.attn(self.norm1(x), mask, num_queries)
        return x + self.mlp(self.norm2(x))


class MapperTransformer(nn.Module):
    """The mapper's layers, from (B, M, D) to the last Q positions (B, Q, D).

    It has neither position embeddings nor a final norm.
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MapperLayer(width) for _ in range(num_layers))

    def forward(self, x: Tensor, mask: Tensor | None, num_queries: int) -> Tensor:
        """Maps (B, M, D) to the last Q positions (B, Q, D)."""
        *inner, last = self.layers
        for layer in inner:
            x = layer(x, mask, x.shape[1])
        return last(x, mask, num_queries)  # the other positions are no longer needed


class Mapper(nn.Module):
    """Maps any number of visual tokens to a prefix of fixed length.

    Args:
        embed_dim: P, width of the tokens.
        width: D, width of GPT-2.
        prefix_length: number of learned constants that are appended; their outputs are the prefix.
        num_layers: transformer layers.
    """

    def __init__(self, embed_dim: int, width: int, prefix_length: int, num_layers: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, width)
        self.prefix_const = nn.Parameter(torch.zeros(prefix_length, width))
        self.transformer = MapperTransformer(width, num_layers)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps tokens to prefixes.

        Args:
            tokens: (B, M, P), not normalised.
            mask: (B, M) with 1 for a token and 0 for padding; None where there is no padding.

        Returns:
            (B, prefix_length, D).
        """
        constants = self.prefix_const.expand(len(tokens), -1, -1)
        x = torch.cat([self.linear(tokens), constants], dim=1)
        if mask is not None:
            mask = F.pad(mask.bool(), (0, len(self.prefix_const)), value=True)[:, None, None]
        return self.transformer(x, mask, len(self.prefix_const))


class CaptionModel(nn.Module):
    """GPT-2 (``gpt``) with its mapper (``clip_project``)."""

    def __init__(
        self, gpt: GPT2LMHeadModel, embed_dim: int, prefix_length: int, num_layers: int
    ) -> None:
        super().__init__()
        self.gpt = gpt
        self.clip_project = Mapper(embed_dim, gpt.config.n_embd, prefix_length, num_layers)

    def prefix(self, dropped: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the visual prefixes (B, prefix_length, D) of dropped tokens (B, M, P)."""
        return self.clip_project(dropped.to(self.clip_project.prefix_const.dtype), mask)

    def embed_prompt(self, question_ids: list[int], prefix: Tensor) -> Tensor:
        """Embeds [question ; prefix] of one sample as GPT-2 reads it.

        Args:
            question_ids: GPT-2 ids of the question, Q of them.
            prefix: (prefix_length, D).

        Returns:
            (Q + prefix_length, D).
        """
        return self.embed_prompts([question_ids], [prefix])[0]

    def embed_prompts(
        self, question_ids: Sequence[list[int]], prefixes: Sequence[Tensor] | Tensor
    ) -> list[Tensor]:
        """Embeds the prompts of B samples; see embed_prompt."""
        joined = torch.tensor([i for ids in question_ids for i in ids], dtype=torch.long)
        words = self.gpt.transformer.wte(send(joined, prefixes[0].device))
        pieces = words.split([len(ids) for ids in question_ids])
        return [torch.cat(both) for both in zip(pieces, prefixes)]


def quicken(gpt: GPT2LMHeadModel) -> None:
    """Makes GPT-2 decode faster; what it writes stays the same.

    Its activation, which transformers computes in eight steps, becomes torch's with the same
    formula. On a CPU its matrices are transposed in memory, with the same shapes and values:
    transformers stores them as (in, out), and a product with the two or three rows of one sample's
    beams reads a matrix stored as (out, in) 1.6 times as fast.
    """
    for module in gpt.modules():
        if isinstance(module, GPT2MLP) and isinstance(module.act, NewGELUActivation):
            module.act = nn.GELU(approximate="tanh")
        if isinstance(module, Conv1D) and module.weight.device.type == "cpu":
            module.weight.data = module.weight.data.T.contiguous().T
