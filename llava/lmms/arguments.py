"""The arguments in lmms-eval's ``--model_args``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import NoneType
from typing import Any, Union, get_args, get_origin, get_type_hints

from llava.arguments import AskArguments, flag
from llava.budgets import BUDGET, AskedBudget, read_budget
from llava.errors import UserError

MODEL = "pretrained"  # name of the model's path in lmms-eval's models
_WORDS = {bool: "true or false", int: "a whole number", AskedBudget: BUDGET}


@dataclass
class LmmsArguments(AskArguments):
    """Model arguments: the flags of every command, without their dashes.

    model_path is called ``pretrained``, and batch_size comes from ``--batch_size``. Several
    pruner_options are separated by blanks, for lmms-eval separates arguments by commas; NAME:VALUE
    stands for NAME=VALUE, for some of its versions read no second equals sign.
    """

    max_new_tokens: int = flag("Longest answer in tokens, where a task does not say.", 1024)


def read_arguments(given: Mapping[str, object]) -> LmmsArguments:
    """Reads model arguments as lmms-eval gives them: texts, or values that it converted.

    Raises:
        UserError: an argument is unknown or cannot have that value, or the model is missing.
    """
    kinds = get_type_hints(LmmsArguments)
    names = {MODEL if name == "model_path" else name: name for name in kinds}
    if unknown := [name for name in given if name not in names]:
        raise UserError(
            f"there is no model argument {', '.join(unknown)}; there are: {', '.join(names)}"
        )
    if MODEL not in given:
        raise UserError(
            f"say which model: --model_args {MODEL}=FOLDER, or a name on the Hugging Face hub"
        )
    args = LmmsArguments(
        **{names[name]: _typed(name, value, kinds[names[name]]) for name, value in given.items()}
    )
    args.check_compensation()
    for name in ("batch_size", "max_new_tokens"):
        if getattr(args, name) < 1:
            raise UserError(f"{name} is {getattr(args, name)}; it must be at least 1")
    return args


def _typed(name: str, value: object, kind: Any) -> Any:
    """Converts a value to the type of its argument, Optional or not.

    Raises:
        UserError: it cannot be converted.
    """
    if get_origin(kind) is list:
        return [word.replace(":", "=", 1) for word in str(value).split()]
    if get_origin(kind) is Union:
        kind = Union[tuple(one for one in get_args(kind) if one is not NoneType)]
    text = str(value).strip()
    if kind is str:
        return text
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is int and re.fullmatch(r"-?\d+", text):
        return int(text)
    if kind == AskedBudget:
        with suppress(ValueError):
            return read_budget(text)
    raise UserError(f"{name} is {value!r}; it must be {_WORDS[kind]}")
