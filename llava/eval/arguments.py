"""Flags that every command which asks questions has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from llava.model.builder import ModelArguments, flag
from llava.model.sample import DEFAULT_SEED


@dataclass
class AskArguments(ModelArguments):
    """Which model, and with how many tokens it is asked."""

    visual_token_num: Optional[int] = flag(
        "Visual tokens to keep. Default: VISUAL_TOKEN_NUM in "
        "llava/model/multimodal_encoder/clip_encoder.py."
    )
    text_token_num: Optional[int] = flag(
        "Tokens that the question picks. Default: the paper's number for this budget."
    )
    seed: int = flag("Seed of the one random draw of each question.", DEFAULT_SEED)
    batch_size: int = flag("Questions at once.", 8)
    no_image: bool = flag("Ask without any visual token or caption: the floor.", False)
