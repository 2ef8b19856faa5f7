"""The parts of a measured model that not every model has."""

from __future__ import annotations

from llava.errors import UserError
from llava.model.compensation.compensator import Compensator
from llava.model.compensation.sums import find_term
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
