"""Shell completion of commands and flags: ``python -m llava.completion bash|zsh``.

The printed script contains all words, so that completion does not start Python. Printing it imports
every command and reads its help.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib import import_module

from llava.command import COMMANDS, USER_MISTAKE, Command, called, example
from llava.errors import did_you_mean

_PROGRAM = "llava.completion"
_FLAGS = re.compile(r"^  (?:-h, )?(--[a-z][\w-]*)(?:, (--[a-z][\w-]*))?", re.MULTILINE)

_TABLES = """\
_accm_words() {{
    case "$1" in
{words}
    esac
}}
_accm_flags() {{
    case "$1 $2" in
{flags}
    esac
}}
"""

# After a flag, and wherever else no words are known, the shell completes file names.
_SHELLS = {
    "bash": _TABLES
    + """\
_accm() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" known=""
    case "$COMP_CWORD $word" in
        "1 "*) known="$(_accm_words "")" ;;
        *" -"*) known="$(_accm_flags "${{COMP_WORDS[1]}}" "${{COMP_WORDS[2]}}")" ;;
        "2 "*) known="$(_accm_words "${{COMP_WORDS[1]}}")" ;;
    esac
    COMPREPLY=($(compgen -W "$known" -- "$word"))
}}
complete -o default -F _accm accm
""",
    "zsh": "#compdef accm\n"
    + _TABLES
    + """\
_accm() {{
    local known=""
    case "$CURRENT ${{words[CURRENT]}}" in
        "2 "*) known="$(_accm_words "")" ;;
        *" -"*) known="$(_accm_flags "${{words[2]}}" "${{words[3]}}")" ;;
        "3 "*) known="$(_accm_words "${{words[2]}}")" ;;
    esac
    if [[ -n "$known" ]]; then compadd -- ${{=known}}; else _files; fi
}}
if [[ "${{funcstack[1]}}" == _accm ]]; then _accm "$@"; else compdef _accm accm; fi
""",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[-1:] in (["-h"], ["--help"]):
        print(f"usage: {called(_PROGRAM)} {'|'.join(_SHELLS)}\n")
        print("Prints a script that lets the shell complete commands and flags.\n")
        print(f"For example: {example(_PROGRAM)}")
        return 0
    if len(words) != 1 or words[0] not in _SHELLS:
        guess = did_you_mean(words[0] if words else "", _SHELLS)
        print(f"error: name one shell: {', '.join(_SHELLS)}{guess}", file=sys.stderr)
        return USER_MISTAKE
    print(script(words[0]), end="")
    return 0


def script(shell: str) -> str:
    """Returns the script for a shell, "bash" or "zsh"."""
    first = {"": " ".join([*COMMANDS, "--help", "--version"])}
    words = first | {name: " ".join(c.words) for name, c in COMMANDS.items() if c.words}
    return _SHELLS[shell].format(
        words="\n".join(f'        "{name}") echo "{text}" ;;' for name, text in words.items()),
        flags="\n".join(f'        {name}) echo "{text}" ;;' for name, text in _all_flags()),
    )


def _all_flags() -> Iterator[tuple[str, str]]:
    """Yields patterns of the first two words, each with the flags that may follow."""
    for name, command in COMMANDS.items():
        for word in command.words:
            yield f'"{name} {word}"', _flags(command, word)
        if not command.words:
            yield f'"{name} "*', _flags(command)


def _flags(command: Command, *words: str) -> str:
    """Returns the flags of a command in a line, as its help lists them."""
    text = io.StringIO()
    with redirect_stdout(text):
        try:
            import_module(command.module).main([*words, "--help"])
        except SystemExit:  # argparse exits after a help
            pass
    flags = [flag for pair in _FLAGS.findall(text.getvalue()) for flag in pair if flag]
    return " ".join(dict.fromkeys(flags))


if __name__ == "__main__":
    sys.exit(main())
