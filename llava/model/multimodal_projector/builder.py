"""The projector between tower and LLM: LLaVA-1.5's two-layer MLP."""

from __future__ import annotations

from torch import nn

from llava.errors import UserError, quoted


def build_vision_projector(projector_type: str, vision_width: int, llm_width: int) -> nn.Sequential:
    """Maps (..., vision_width) to (..., llm_width).

    Raises:
        UserError: a projector that LLaVA-1.5 does not have.
    """
    if projector_type != "mlp2x_gelu":
        raise UserError(
            f"the checkpoint's projector is {quoted(projector_type)}; LLaVA-1.5 has mlp2x_gelu, "
            "and no other is supported"
        )
    return nn.Sequential(
        nn.Linear(vision_width, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width)
    )
