"""Flags from a dataclass: one per field, grouped in the help by the first class that has it.

A field's metadata hold ``help``, its purpose; they may hold ``choices``, its only values (the help
lists them; code that uses the value refuses others), and ``off``, the value of ``--no-NAME``. A
flag may be spelled with underscores too: ``--model_path``. transformers parses dataclasses too, but
takes seconds to import, and its help and its errors are argparse's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, Generic, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from llava.budgets import BUDGET, AskedBudget, read_budget
from llava.errors import did_you_mean, quoted, shown

Arguments = TypeVar("Arguments")

_WIDEST = 100  # columns of a help
_INDENT = 26  # columns before the purpose of a flag
_SWITCH = {word: True for word in ("yes", "true", "t", "y", "1")}
_SWITCH |= {word: False for word in ("no", "false", "f", "n", "0")}
_KINDS = {bool: "yes or no", int: "a whole number", float: "a number", AskedBudget: BUDGET}


@dataclass(frozen=True)
class Flag:
    """A field as a flag.

    Attributes:
        name: with dashes, without the two leading ones.
        kind: bool, int, float, str or AskedBudget.
        is_list: whether it takes several values.
        default: default of the field; None may stand for one that the help describes.
        is_required: whether there is no default.
        help: its purpose.
        choices: the only values; empty if any value may be given.
        off: the value of its second name, which turns it off; None if it has none.
        group: the description of the first class that has it.
    """

    name: str
    kind: Any
    is_list: bool
    default: Any
    is_required: bool
    help: str
    choices: tuple[str, ...]
    off: object
    group: str

    @property
    def names(self) -> list[str]:
        """The names on a command line; a flag that is on has a second name that turns it off."""
        return [f"--{self.name}"] + ([] if self.off is None else [f"--no-{self.name}"])

    @property
    def is_switch(self) -> bool:
        """Whether its name alone turns it on; a flag without a default needs a value."""
        return self.kind is bool and self.default is not None

    def described(self) -> str:
        """Returns its purpose, and its default if that says something."""
        says_nothing = self.default is None or self.default is False or self.default in ("", [])
        if says_nothing or "Default:" in self.help:
            return self.help
        values = self.default if self.is_list else [self.default]
        words = " ".join("yes" if value is True else str(value) for value in values)
        return f"{self.help} Default: {words}."

    def typed(self) -> str:
        """Returns its names and its values as the help shows them."""
        names = ", ".join(self.names)
        if self.is_switch:
            return names
        words = {int: "N", float: "X", bool: "yes|no", AskedBudget: "K"}
        values = words.get(self.kind) or "|".join(self.choices)
        return f"{names} {values or self.name.split('-')[-1].upper()}{'...' * self.is_list}"


def flags_of(arguments: type) -> list[Flag]:
    """Returns the fields of a dataclass as flags: its own first, then the inherited ones."""
    hints = get_type_hints(arguments)
    classes = [c for c in arguments.__mro__ if is_dataclass(c)]
    flags = []
    for of in fields(arguments):
        home = [c for c in classes if of.name in c.__dataclass_fields__][-1]
        flags.append((classes.index(home), _flag(of, hints[of.name], home)))
    return [flag for _, flag in sorted(flags, key=lambda pair: pair[0])]


def _flag(of: Field, hint: Any, home: type) -> Flag:
    if get_origin(hint) is Union:
        hint = Union[tuple(kind for kind in get_args(hint) if kind is not NoneType)]
    is_list = get_origin(hint) is list
    is_required = of.default is MISSING and of.default_factory is MISSING
    if of.default_factory is not MISSING:
        default = of.default_factory()
    else:
        default = None if is_required else of.default
    return Flag(
        name=of.name.replace("_", "-"),
        kind=get_args(hint)[0] if is_list else hint,
        is_list=is_list,
        default=default,
        is_required=is_required,
        help=of.metadata["help"],
        choices=tuple(of.metadata.get("choices", ())),
        off=False if default is True else of.metadata.get("off"),
        group=" ".join((home.__doc__ or "").split(".")[0].split()),
    )


class LineParser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one line, with the flag that may have been meant.

    Args:
        program: name of the command.
        description: first line of the help.
        example: a command line, for the last line of the help; may be empty.
    """

    def __init__(self, program: str, description: str, example: str = "") -> None:
        self.known: list[str] = []
        epilog = f"For example: {example}" if example else None
        super().__init__(prog=program, description=description, epilog=epilog, allow_abbrev=False)

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """Adds a flag or a word as argparse does, and remembers its names."""
        self.known += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **settings)

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parses as argparse does, and exits if a flag is unknown."""
        words = sys.argv[1:] if args is None else args
        found, unknown = self.parse_known_args([self._dashed(word) for word in words], namespace)
        if unknown:
            names = [word.partition("=")[0] for word in unknown if word.startswith("-")]
            guesses = "".join(did_you_mean(name, self.known) for name in names)
            what = "flags" if names else "words"
            self.error(f"unknown {what}: {' '.join(map(shown, unknown))}{guesses}")
        return found

    def _dashed(self, word: str) -> str:
        name, equals, value = word.partition("=")
        dashed = name.replace("_", "-")
        return dashed + equals + value if dashed in self.known else word

    def error(self, message: str) -> NoReturn:
        """Exits with one line and argparse's status."""
        self.exit(2, f"error: {message}; {self.prog} --help lists the flags\n")


class FlagParser(LineParser, Generic[Arguments]):
    """Reads the flags of a dataclass.

    Args:
        arguments: the dataclass.
        program, description, example: as in LineParser.
    """

    def __init__(
        self, arguments: type[Arguments], program: str, description: str, example: str = ""
    ) -> None:
        super().__init__(program, description, example)
        self._arguments = arguments
        self._flags = flags_of(arguments)
        for flag in self._flags:
            self._add(flag)

    def read(self, argv: Sequence[str] | None = None) -> Arguments:
        """Returns the dataclass filled from the command line.

        Args:
            argv: the command line; None takes the process's.
        """
        return self._arguments(**vars(self.parse_args(argv)))

    def _add(self, flag: Flag) -> None:
        on, *off = flag.names
        field = {"dest": flag.name.replace("-", "_"), "default": argparse.SUPPRESS}
        how: dict = {"type": _reader(flag.kind), "required": flag.is_required}
        if flag.is_list:
            how["nargs"] = "+"
        elif flag.is_switch or off:
            how |= {"nargs": "?", "const": True if flag.is_switch else flag.default}
        self.add_argument(on, **field, **how)
        if off:
            self.add_argument(*off, action="store_const", const=flag.off, **field)

    def format_help(self) -> str:
        """Returns the help: the command's purpose, each flag once, an example."""
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        lines = [f"usage: {self.prog} [flags]", "", *textwrap.wrap(self.description or "", width)]
        for group in dict.fromkeys(flag.group for flag in self._flags):
            lines += ["", f"{group}:"]
            for flag in self._flags:
                if flag.group == group:
                    lines += _entry(flag.typed(), flag.described(), width)
        lines += ["", *_entry("--help", "This text.", width)]
        if self.epilog:
            lines += ["", self.epilog]
        return "\n".join(lines) + "\n"


def _entry(typed: str, text: str, width: int) -> list[str]:
    """Returns the lines of a flag: its purpose stands beside it, or below if the flag is long."""
    indent = " " * _INDENT
    room = max(width - _INDENT, 20)
    body = textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False)
    head = f"  {typed}"
    if len(head) > _INDENT - 2:
        return [head, *(indent + line for line in body)]
    return [head.ljust(_INDENT) + body[0], *(indent + line for line in body[1:])]


def _reader(kind: Any) -> Callable[[str], object]:
    """Returns a function from a word to a value; its error says in plain English what is wrong."""
    read_typed = read_budget if kind == AskedBudget else kind

    def read(word: str) -> object:
        try:
            return _SWITCH[word.lower()] if kind is bool else read_typed(word)
        except (KeyError, ValueError) as error:
            raise argparse.ArgumentTypeError(f"{quoted(word)} is not {_KINDS[kind]}") from error

    return read
