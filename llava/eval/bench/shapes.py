"""Parts of a model, and their operations as formulas of shapes; a multiply-add counts as two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llava.errors import UserError
from llava.model.backbones.llava_next import LlavaNext
from llava.model.compensation.compensator import Compensator
from llava.model.compensation.sums import find_term
from llava.model.cost import Shape
from llava.model.llava_arch import LlavaAccm


def compensator_of(model: LlavaAccm) -> Compensator:
    """Returns what writes and chooses a model's captions.

    Raises:
        UserError: the model was loaded without it.
    """
    compensator = find_term(model.compensator, Compensator)
    if compensator is None:
        raise UserError("the model has no captions, whose cost is measured: load it with them")
    return compensator


def vision_shape(model: LlavaAccm) -> Shape:
    """Returns the shape of CLIP's image tower."""
    vision = model.tower.clip.config.vision_config
    return Shape(vision.hidden_size, vision.num_hidden_layers, vision.intermediate_size)


def llm_shape(model: LlavaAccm) -> Shape:
    """Returns the shape of the LLM."""
    llm = model.language_model.llm.config
    return Shape(
        llm.hidden_size,
        llm.num_hidden_layers,
        llm.intermediate_size,
        vocabulary=llm.vocab_size,
        gated=True,
    )


def vision_operations(model: LlavaAccm, num_views: int | None = None) -> float:
    """Returns the operations of encoding all views of one image; None: of the largest N."""
    shape, n = vision_shape(model), model.tower.num_patches
    patch = model.tower.clip.config.vision_config.patch_size
    view = shape.operations(n + 1) + 2 * n * 3 * patch**2 * shape.width
    return (len(model.backbone.views()) if num_views is None else num_views) * view


def newlines_of(model: LlavaAccm) -> int:
    """Returns the number of newline tokens of an image of the largest N; 0 on LLaVA-1.5."""
    backbone = model.backbone
    return backbone.layout().height if isinstance(backbone, LlavaNext) else 0


def projector_operations(model: LlavaAccm, tokens: int) -> float:
    """Returns the operations of projecting visual tokens into the LLM's space."""
    first, _, second = model.language_model.projector
    numbers = sum(layer.in_features * layer.out_features for layer in (first, second))
    return 2 * tokens * numbers


def llm_operations(shape: Shape, visual: Sequence[float], text: int, answer: int) -> float:
    """Returns the LLM's operations for a prompt and its answer.

    Args:
        shape: its shape.
        visual: the visual tokens that each of its layers reads.
        text: the other tokens of the prompt.
        answer: tokens of the answer; each after the first is a pass over one token.
    """
    layer = replace(shape, layers=1)
    total = 2.0 * answer * shape.vocabulary * shape.width
    for tokens in visual:
        total += layer.operations(text + tokens)
        for step in range(answer - 1):
            total += layer.operations(1, past=text + tokens + step)
    return total


def pipeline_operations(
    model: LlavaAccm, visual: Sequence[float], text: int, answer: int, num_views: int
) -> float:
    """Returns the operations of image tower, projector and LLM for one question.

    What selects the tokens, and what compensates for the dropped ones, has no formula here.

    Args:
        model: the model.
        visual, text, answer: as in llm_operations.
        num_views: of the image.
    """
    read = round(visual[0]) if visual else 0
    seen = 0.0
    if read:
        seen = vision_operations(model, num_views) + projector_operations(model, read)
    return seen + llm_operations(llm_shape(model), visual, text, answer)
