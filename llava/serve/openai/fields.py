"""Values of a JSON object, each of the kind that its field must have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from llava.budgets import BUDGET, AskedBudget
from llava.errors import did_you_mean, quoted
from llava.serve.openai.errors import ApiError

Value = TypeVar("Value")
_LONGEST_NAME = 100  # characters of a field's name in an error


def read(
    given: Mapping[str, Any], name: str, kind: Callable[[object, str], Value], default: Value
) -> Value:
    """Returns a field's value, checked; the default where it is missing or null."""
    value = given.get(name)
    return default if value is None else kind(value, name)


def needed(given: Mapping[str, Any], name: str, kind: Callable[[object, str], Value]) -> Value:
    """Returns a field's value, checked.

    Raises:
        ApiError: it is missing or null, or of another kind.
    """
    if given.get(name) is None:
        raise ApiError(f"{name} is missing: give it", param=name)
    return kind(given[name], name)


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str = "") -> None:
    """Refuses names that are no fields.

    Raises:
        ApiError: names the first of them, and the field that may have been meant.
    """
    names = list(known)
    for name in given:
        if name not in names:
            near = did_you_mean(name, names)
            full = f"{where}.{name}" if where else name
            raise ApiError(f"there is no field {quoted(full)}{near}", param=full[:_LONGEST_NAME])


def text(value: object, name: str) -> str:
    """Returns a text, or refuses the value."""
    return _of_type(value, name, str, "a text")


def whole(value: object, name: str) -> int:
    """Returns a whole number, or refuses the value."""
    return _of_type(value, name, int, "a whole number")


def budget(value: object, name: str) -> AskedBudget:
    """Returns a number of tokens, or a text that may be a share of them, or refuses the value."""
    return _of_type(value, name, (int, str), BUDGET)


def number(value: object, name: str) -> float:
    """Returns a number, or refuses the value."""
    return _of_type(value, name, (int, float), "a number")


def switch(value: object, name: str) -> bool:
    """Returns true or false, or refuses the value."""
    if not isinstance(value, bool):
        raise ApiError(f"{name} is {quoted(value)}, not true or false", param=name)
    return value


def items(value: object, name: str) -> list:
    """Returns a list, or refuses the value."""
    return _of_type(value, name, list, "a list")


def mapping(value: object, name: str) -> dict[str, Any]:
    """Returns an object, or refuses the value."""
    return _of_type(value, name, dict, "an object")


def _of_type(value: Any, name: str, kind: type | tuple[type, ...], article: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ApiError(f"{name} is {quoted(value)}, not {article}", param=name)
    return value
