"""The selector, which scores the candidate captions (arXiv 2508.01236)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llava.constants import OPTION_LETTER_SUFFIX, SHORT_ANSWER_SUFFIX

SELECTOR_HEADS = 8
SELECTOR_MLP_RATIO = 2


class Selector(nn.Module):
    """A small transformer over the features of all candidates of a sample.

    The names of the modules are the keys of the published file. Beyond the paper, a selector may
    have learnt to choose no caption at all: silence is then one more candidate. Its features are
    learnt too and depend on the share of the visual tokens that the LLM sees anyway.

    Args:
        embed_dim: P, width of the features.
        num_layers: encoder layers.
        silence: whether silence is a candidate; the published selector has none.

    Attributes:
        silence: (2, P), the features of silence if the LLM sees no token, and the vector that is
            added to them in proportion to the share of tokens seen; None if silence is not a
            candidate.
    """

    def __init__(self, embed_dim: int, num_layers: int, silence: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            embed_dim,
            SELECTOR_HEADS,
            dim_feedforward=SELECTOR_MLP_RATIO * embed_dim,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.transformer_encoder = nn.TransformerEncoder(
            layer, num_layers, enable_nested_tensor=False
        )
        self.head = nn.Linear(embed_dim, 1)
        self.silence = nn.Parameter(torch.randn(2, embed_dim)) if silence else None

    def forward(self, features: Tensor, kept_shares: Tensor | None = None) -> Tensor:
        """Computes the candidates' logits; they attend to each other, and order has no meaning.

        Args:
            features: (B, W, P), not normalised.
            kept_shares: (B,) K / N of each sample; without effect if silence is not a candidate.

        Returns:
            (B, W) logits, or (B, W + 1) with that of silence last; their softmax is the
            score.
        """
        if self.silence is not None:
            # Given wherever silence is a candidate.
            shares = kept_shares.to(features)[:, None]  # type: ignore[union-attr]
            silent = self.silence[0] + shares * self.silence[1]
            features = torch.cat([features, silent[:, None].to(features.dtype)], dim=1)
        return self.head(self.transformer_encoder(features)).squeeze(-1)


def selector_text(question: str, caption: str) -> str:
    """Returns the text of a candidate for LongCLIP.

    There are two spaces before "Supplemental", as in the reference.
    """
    text = f"Question: {question.strip()}  Supplemental information for questions: "
    for suffix in (OPTION_LETTER_SUFFIX, SHORT_ANSWER_SUFFIX):
        text = text.replace(suffix, "")
    return text + caption
