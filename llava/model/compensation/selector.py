"""The selector: which of the candidate captions helps (arXiv 2508.01236)."""

from __future__ import annotations

from torch import Tensor, nn

from llava.constants import OPTION_LETTER_SUFFIX, SHORT_ANSWER_SUFFIX

SELECTOR_HEADS = 8
SELECTOR_MLP_RATIO = 2


class Selector(nn.Module):
    """A small transformer over the features of all candidates of a sample.

    The names of the modules are the keys of the published file.

    Args:
        embed_dim: P, width of the features.
        num_layers: encoder layers.
    """

    def __init__(self, embed_dim: int, num_layers: int) -> None:
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

    def forward(self, features: Tensor) -> Tensor:
        """Scores the candidates, which see each other; their order carries no meaning.

        Args:
            features: (B, W, P), not normalised.

        Returns:
            (B, W) logits; their softmax over W is the score.
        """
        return self.head(self.transformer_encoder(features)).squeeze(-1)


def selector_text(question: str, caption: str) -> str:
    """What LongCLIP reads of one candidate: two blanks before "Supplemental", as the reference."""
    text = f"Question: {question.strip()}  Supplemental information for questions: "
    for suffix in (OPTION_LETTER_SUFFIX, SHORT_ANSWER_SUFFIX):
        text = text.replace(suffix, "")
    return text + caption
