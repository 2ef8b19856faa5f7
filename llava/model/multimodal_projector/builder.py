"""The projector between tower and LLM: the two-layer MLP of LLaVA-1.5 and LLaVA-NeXT."""

from __future__ import annotations

from accelerate import init_empty_weights
from torch import nn

from llava.errors import UserError, quoted
from llava.model.loading.configs import config_errors
from llava.model.loading.llava_config import LlavaConfig, Tensors
from llava.model.loading.placement import Placement
from llava.model.loading.weights import fill


def build_vision_projector(projector_type: str, vision_width: int, llm_width: int) -> nn.Sequential:
    """Builds the projector, which maps (..., vision_width) to (..., llm_width).

    Raises:
        UserError: a projector of another kind.
    """
    if projector_type != "mlp2x_gelu":
        raise UserError(
            f"the checkpoint's projector is {quoted(projector_type)}; LLaVA-1.5 and LLaVA-NeXT "
            "have mlp2x_gelu, and no other is supported"
        )
    return nn.Sequential(
        nn.Linear(vision_width, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width)
    )


def build_projector(
    config: LlavaConfig, vision_width: int, tensors: Tensors, source: str, place: Placement
) -> nn.Sequential:
    """Builds the projector from tower to LLM and fills it with its weights."""
    with config_errors(source), init_empty_weights():
        projector = build_vision_projector(
            config.projector_type, vision_width, config.llm.hidden_size
        )
    fill(projector, tensors, f"{source} (projector)", place.dtype, place.device_of)
    return projector
