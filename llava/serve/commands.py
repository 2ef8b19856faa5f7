"""The commands of a chat, which can be typed instead of questions."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llava.budgets import count_kept, read_budget
from llava.errors import UserError, did_you_mean, quoted, shown
from llava.files import is_there
from llava.image_url import is_url

PROMPT = "USER: "


@dataclass(frozen=True)
class Command:
    """A line that begins with a slash.

    Attributes:
        words: the arguments that may follow it; empty if there are none.
        does: its line in the help.
    """

    words: str
    does: str


COMMANDS = {
    "/image": Command("FILE", "ask about another image, a file or a URL"),
    "/tokens": Command("K", "keep K visual tokens from now on: 36, 1/4 or 25%; alone: how many"),
    "/pruner": Command("NAME", "another rule for which tokens stay, with NAME=VALUE options"),
    "/why": Command("", "how the last answer came about"),
    "/clear": Command("", "forget the conversation so far"),
    "/help": Command("", "this list"),
    "/quit": Command("", "the end, as Ctrl-D"),
}

HELP = "\n".join(f"{f'{name} {c.words}':<13} {c.does}" for name, c in COMMANDS.items())


def split_command(line: str) -> tuple[str, str]:
    """Returns a command and its arguments.

    Raises:
        UserError: there is no such command, or it takes no arguments.
    """
    command, rest = re.findall(r"(\S+)\s*(.*)", line, re.DOTALL)[0]
    if command not in COMMANDS:
        guess = did_you_mean(command, COMMANDS)
        raise UserError(f"there is no command {shown(command)}{guess}; /help lists them")
    if "\n" in rest:
        raise UserError(f"{command} is a line of its own: send what follows it separately")
    if rest and not COMMANDS[command].words:
        raise UserError(f"{command} stands alone: take {shown(rest)} away")
    return command, rest


def image_name(words: str) -> str:
    """Returns the file or URL that the words mean.

    It may be typed as it is, with ``~`` for the user's folder, or quoted for a shell, as terminals
    insert a file that is dropped on them.

    Raises:
        UserError: the words name nothing.
    """
    if not words:
        raise UserError("say which: /image FILE, a picture's path (Tab completes it) or its URL")
    name = os.path.expanduser(words)
    if is_url(words) or is_there(Path(name)):
        return name
    try:
        parts = shlex.split(words)
    except ValueError:  # an unclosed quotation mark
        return name
    return os.path.expanduser(parts[0]) if len(parts) == 1 else name


def read_tokens(words: str, num_patches: int) -> int:
    """Returns a number of visual tokens from a number or a share; see llava.budgets.

    Args:
        words: the typed words.
        num_patches: number of visual tokens of a whole image.

    Raises:
        UserError: it is neither, or not from 1 to num_patches.
    """
    kept = 0
    with suppress(ValueError):
        kept = count_kept(read_budget(words), num_patches)
    if not 1 <= kept <= num_patches:
        raise UserError(
            f"/tokens wants a whole number from 1 to {num_patches}, or a share such as 1/4, 0.25 "
            f"or 25%, not {quoted(words)}"
        )
    return kept
