"""LongCLIP's text tower: CLIP's, with 248 positions (arXiv 2508.01236)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llava.mm_utils import send

HEAD_WIDTH = 64  # heads of OpenAI's CLIP text towers are this wide
MLP_RATIO = 4
# The first rows of the position table are those of the CLIP that LongCLIP started from; the others
# are kept apart in the file, as ``positional_embedding_res``.
KEPT_POSITIONS = 20


def build_text_tower(
    width: int, layers: int, embed_dim: int, context_length: int, vocab_size: int
) -> nn.Module:
    """open_clip's text transformer with OpenAI's shapes; ids (B, L) to features (B, embed_dim)."""
    from open_clip.transformer import QuickGELU, TextTransformer  # slow to import

    return TextTransformer(
        context_length=context_length,
        vocab_size=vocab_size,
        width=width,
        heads=width // HEAD_WIDTH,
        layers=layers,
        mlp_ratio=MLP_RATIO,
        output_dim=embed_dim,
        act_layer=QuickGELU,
    )


class LongClipText(nn.Module):
    """Texts to features, without normalisation.

    The tower's layers are called from here, because its own forward wants all positions.

    Args:
        tower: from build_text_tower, weights loaded.
        context_length: positions of the tower.
    """

    def __init__(self, tower: nn.Module, context_length: int) -> None:
        super().__init__()
        from open_clip.tokenizer import SimpleTokenizer

        self.tower = tower
        self._tokenizer = SimpleTokenizer(context_length=context_length)

    @property
    def embed_dim(self) -> int:
        """Width of the features."""
        return self.tower.text_projection.shape[1]

    def tokenize(self, texts: list[str]) -> Tensor:
        """(B, L) int64, L as the longest text needs; longer than the tower reads is cut, the
        last id then being the end-of-text id."""
        ids = self._tokenizer(texts)
        # Only the first end-of-text is read and attention is causal: what is behind it costs only
        # time.
        return ids[:, : int(ids.argmax(dim=-1).max()) + 1]

    def forward(self, texts: list[str]) -> Tensor:
        """(B, embed_dim)."""
        tower = self.tower
        ids = send(self.tokenize(texts), tower.positional_embedding.device)
        length = ids.shape[1]
        x = tower.token_embedding(ids) + tower.positional_embedding[:length]
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        ends = tower.ln_final(x)[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
        return ends @ tower.text_projection


def merge_positions(positional_embedding: Tensor, residual: Tensor) -> Tensor:
    """One position table (L, C) from the two of the file."""
    return torch.cat([positional_embedding[:KEPT_POSITIONS], residual[KEPT_POSITIONS:]])
