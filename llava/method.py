"""How a question is asked: one record that samples, requests and flags share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Union

from llava.budgets import AskedBudget
from llava.compensations import CAPTIONS, NOTHING
from llava.errors import UserError, quoted

DEFAULT_SEED = 42
DEFAULT_PRUNER = "accm"
# Methods that have a name: their pruner, and what is given back for the dropped tokens. accm+ was
# best on validation scenes of the small model (docs/methods.md, "The best of all combined").
NAMED = {
    "prune": (DEFAULT_PRUNER, NOTHING),
    "accm": (DEFAULT_PRUNER, CAPTIONS),
    "accm+": ("mmtok", "merge"),
}
# How a budget is spread over the views of an image: the pruner chooses among all tokens at once; or
# in each view, for a share of the budget by its size; or the base view is served first, and the
# tiles by their sizes from what is left.
GLOBAL, PROPORTIONAL, BASE_FIRST = VIEW_SPLITS = ("global", "proportional", "base-first")
ALL_TOKENS, NO_TOKENS = "none", "zero"  # the pruners that keep every token, and no token
DEFAULT_MAX_NEW_TOKENS = 128

Options = Union[Mapping[str, object], Sequence[str]]


@dataclass(frozen=True)
class Method:
    """The part of an image that the LLM reads.

    Attributes:
        visual_token_num: K, how many are kept: a number, or a text such as 1/9, 11% or all; see
            llava.budgets. None takes VISUAL_TOKEN_NUM of clip_encoder.py.
        text_token_num: T, how many of them ACCM selects by the question; None takes the paper's
            share of K (budget.py).
        seed: seed of the random draws (of patches; with a temperature, of answer tokens), so that a
            result depends only on its question.
        no_image: no visual token and no caption: the floor to compare with, since such answers need
            no image. The same as the pruner "zero".
        pruner: chooses the visual tokens; a name in llava.model.token_pruning.registry.
        pruner_options: settings of the pruner, values by name or texts NAME=VALUE; see
            given_options.
        view_split: how the budget is spread over the views of an image that has several; see
            VIEW_SPLITS. None takes the first, or the second for pruners that read a grid.
    """

    visual_token_num: AskedBudget | None = None
    text_token_num: int | None = None
    seed: int = DEFAULT_SEED
    no_image: bool = False
    pruner: str = DEFAULT_PRUNER
    pruner_options: Options = ()
    view_split: str | None = None

    @property
    def sees_nothing(self) -> bool:
        """Whether the LLM reads no visual token of the image."""
        return self.no_image or self.pruner == NO_TOKENS

    @property
    def drops_some(self) -> bool:
        """Whether the LLM reads some visual tokens, and others may be given back."""
        return not self.sees_nothing and self.pruner != ALL_TOKENS


def method_of(asked: object) -> dict[str, Any]:
    """Returns the fields of Method that flags, a request or a sample have, as keyword arguments."""
    names = [field.name for field in fields(Method)]
    return {name: getattr(asked, name) for name in names if hasattr(asked, name)}


def given_options(options: object, what: str = "pruner") -> dict[str, object]:
    """Returns options by their names.

    Args:
        options: values by name, or texts NAME=VALUE.
        what: the options are of; names them in errors.

    Raises:
        UserError: they are neither, or a name is given twice.
    """
    if isinstance(options, Mapping) and all(isinstance(name, str) for name in options):
        return dict(options)
    found: dict[str, object] = {}
    if not isinstance(options, (list, tuple)):
        raise UserError(f"{what}_options is {quoted(options)}: give texts NAME=VALUE")
    for option in options:
        name, equals, value = str(option).partition("=")
        if not (name and equals) or name in found:
            wrong = "is given twice" if name in found else "is not NAME=VALUE"
            raise UserError(f"the {what} option {quoted(str(option))} {wrong}")
        found[name] = value
    return found


def label_of(method: Method, compensation: str, budget: int, num_patches: int) -> str:
    """Returns the name of a method in a report.

    Args:
        method: how a run asks.
        compensation: what is given back for dropped tokens; see llava.compensations.
        budget: the number of kept visual tokens.
        num_patches: the number of all.
    """
    if method.sees_nothing:
        return "no image"
    if budget == num_patches:
        return "full"
    options = given_options(method.pruner_options)
    if method.view_split is not None:
        options["view_split"] = method.view_split
    for name, parts in NAMED.items():
        if parts == (method.pruner, compensation) and not options:
            return name
    if method.pruner == DEFAULT_PRUNER and not options:
        return f"{DEFAULT_PRUNER} with {compensation}"
    pruner = " ".join([method.pruner, *(f"{name}={value}" for name, value in options.items())])
    if compensation == NOTHING:
        return pruner
    return f"{pruner} with {'captions' if compensation == CAPTIONS else compensation}"
