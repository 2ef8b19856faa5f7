"""Conversion of options from flags, requests or recorded cases to the dataclass of a pruner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from llava.errors import UserError, did_you_mean, quoted, shown

_SWITCH = {"true": True, "yes": True, "false": False, "no": False}


def settings_of(options: type, given: Mapping[str, object]) -> Any:
    """Returns the settings of a method, with its defaults for those that are not given.

    Args:
        options: the dataclass of its settings.
        given: values by name; a list stands for a tuple.

    Raises:
        UserError: a name is not known, or a value does not have the setting's type.
    """
    kinds = {field.name: field.type for field in fields(options)}
    hints = get_type_hints(options)
    for name, value in given.items():
        if name not in kinds:
            known = f"use {', '.join(kinds)}" if kinds else "there are none"
            near = did_you_mean(name, kinds)
            raise UserError(f"there is no setting {shown(name)}{near}: {known}")
        if not _is_of(value, hints[name]):
            raise UserError(f"setting {name} is {quoted(value)}; it must be of type {kinds[name]}")
    tuples = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return options(**{**given, **tuples})


def typed(options: type, given: Mapping[str, object]) -> dict[str, object]:
    """Returns settings with texts converted to values, and whole numbers to floats where needed.

    Args:
        options: the dataclass of the settings.
        given: values by name. A text that is not a value of the setting's type stays a text, which
            settings_of refuses.
    """
    hints = get_type_hints(options)
    return {
        name: _spelled(value, hints[name]) if name in hints else value
        for name, value in given.items()
    }


def _spelled(text: object, kind: Any) -> object:
    if get_origin(kind) is tuple and isinstance(text, str):
        return [_spelled(part, get_args(kind)[0]) for part in text.split(",")]
    kinds = get_args(kind) or (kind,)
    if type(text) is int and int not in kinds and float in kinds:
        return float(text)
    if not isinstance(text, str):
        return text
    if NoneType in kinds and text.lower() == "none":
        return None
    if bool in kinds:
        return _SWITCH.get(text.lower(), text)
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _is_of(value: object, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, (list, tuple)) and all(
            _is_of(one, get_args(kind)[0]) for one in value
        )
    if get_args(kind):  # one of several
        return any(_is_of(value, one) for one in get_args(kind))
    return type(value) in ((float, int) if kind is float else (kind,))
