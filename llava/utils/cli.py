"""The frame of every command: flags from a dataclass, errors as one message.

A command's module imports at its head only what reads its flags, so that its help appears at once.
Torch, and whatever imports it, takes seconds: it is imported in the function that does the work,
after the checks that need no torch. Long work is in a module of its own, and the flags in
arguments.py beside it.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from llava.arguments import ModelArguments
from llava.command import called, example
from llava.errors import UserError, did_you_mean
from llava.namesakes import warn_of_namesakes
from llava.utils.flags import FlagParser
from llava.utils.stopping import Stopped, ending_in_order

Arguments = TypeVar("Arguments")

USER_MISTAKE = 2  # exit status, as argparse's own
SOME_FAILED = 1

# Advice if memory is not enough, by the flag that the command must have.
_SAVING = {
    "--batch-size": "a smaller --batch-size",
    "--dtype": "--dtype bfloat16",
    "--device-map": "--device-map auto",
}


def run_command(
    arguments: type[Arguments],
    work: Callable[[Arguments], int],
    program: str,
    description: str,
    argv: Sequence[str] | None = None,
    less_memory: str | None = None,
) -> int:
    """Parses flags into a dataclass and runs the work.

    Args:
        arguments: each field is a flag; ``visual_token_num`` is ``--visual-token-num``.
        work: takes the filled dataclass and returns the exit status.
        program: the module of the command, and the words before the flags.
        description: first line of the help.
        argv: the command line; None takes the process's.
        less_memory: advice if the device's memory is not enough; None names the command's flags.

    Returns:
        The exit status; USER_MISTAKE after a UserError, whose message goes to standard error.
    """
    _quieten_transformers()
    parser = FlagParser(arguments, called(program), _without_call(description), example(program))
    filled = parser.read(argv)

    if less_memory is None:
        less_memory = " or ".join(text for name, text in _SAVING.items() if name in parser.known)

    def check_and_work() -> int:
        if isinstance(filled, ModelArguments):
            _check_device_map(filled)
        with out_of_memory(less_memory):
            return work(filled)

    words = sys.argv[1:] if argv is None else argv
    return guard(check_and_work, _as_typed(parser.prog, words))


def _check_device_map(args: ModelArguments) -> None:
    """Refuses --device-map on a CPU: there are no GPUs to spread the LLM over.

    Quantised weights are refused there in any case, with another message.
    """
    if args.device_map is None or args.bits is not None:
        return
    if args.device_name.split(":")[0] == "cpu":
        raise UserError(
            f"--device-map {args.device_map} spreads the LLM over GPUs, and --device "
            f"{args.device} is the CPU: leave one of the two out"
        )


class Main(Protocol):
    """The main function of a command."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Runs the command on a command line (None takes the process's); returns the status."""


def command(
    arguments: type[Arguments],
    work: Callable[[Arguments], int],
    program: str,
    about: str,
    less_memory: str | None = None,
) -> Main:
    """Returns the main function of a command, which runs run_command.

    Args:
        arguments, work, program, less_memory: see run_command.
        about: documentation of the command's module, whose first line describes it.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        return run_command(arguments, work, program, about.split("\n")[0], argv, less_memory)

    return main


def _quieten_transformers() -> None:
    """Makes transformers report only errors, whether or not it is imported already."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if "transformers" in sys.modules:
        sys.modules["transformers"].utils.logging.set_verbosity_error()


def guard(work: Callable[[], int], command: str = "") -> int:
    """Runs the work of a command; a user's mistake or a stop becomes a line on standard error.

    Args:
        work: returns the exit status.
        command: the typed command line, shown if stopped work can be continued with it.
    """
    try:
        with ending_in_order(), plain_output():
            warn_of_namesakes()
            return work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_MISTAKE
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of the output is gone
            _drop_output()
            return SOME_FAILED
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {where}{error.strerror}: make room, or write elsewhere", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # the output has no room
            _drop_output()
        return USER_MISTAKE
    except KeyboardInterrupt as stop:
        print(_last_line("stopped by the user", stop, command), file=sys.stderr)
        return 130
    except Stopped as stop:
        print(_last_line(stop.reason, stop, command), file=sys.stderr)
        return stop.status


def _drop_output() -> None:
    """Discards the remaining output, so that the process can end in order."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, OSError):  # standard output is closed, or not a file
        pass


def _as_typed(program: str, words: Sequence[str]) -> str:
    """Returns a command as a shell takes it, with the interpreter of this process."""
    start = program.split()
    return shlex.join([sys.orig_argv[0] if start[0] == "python" else start[0], *start[1:], *words])


def _last_line(reason: str, stop: BaseException, command: str) -> str:
    """Returns why the work ended and, if some of it is kept, how to continue it."""
    kept = getattr(stop, "kept", None)
    if kept is None:
        return reason
    from llava.utils.launch import read_launch  # slow to import, and imported already

    # If a launcher started this process, the launcher's command is not known here.
    known = command and read_launch(os.environ) is None
    return f"{reason}: {kept}; the same command goes on" + (f": {command}" if known else "")


@contextmanager
def out_of_memory(advice: str) -> Iterator[None]:
    """Turns an out-of-memory error of a device into one message.

    Args:
        advice: a hint for the user; may be empty.

    Raises:
        UserError: replaces torch's error.
    """
    try:
        yield
    except RuntimeError as error:  # torch is not imported only for this
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"the memory of the device is not enough ({str(error).splitlines()[0]})"
            + (f": try {advice}" if advice else "")
        ) from error


@contextmanager
def plain_output() -> Iterator[None]:
    """Makes every text printable in the output's encoding, and each warning one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    before = warnings.formatwarning
    warnings.formatwarning = lambda text, *_, **__: f"warning: {' '.join(str(text).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def benchmark_command(
    arguments: type[Arguments],
    work: Callable[[str, Arguments], int],
    benchmarks: Sequence[str],
    program: str,
    about: str,
) -> Main:
    """Returns the main function of a command whose first word is a benchmark; see command."""

    def main(argv: Sequence[str] | None = None) -> int:
        words = list(sys.argv[1:] if argv is None else argv)
        name = words[0] if words else ""
        if name in ("-h", "--help"):
            called_as = f"{program} {'|'.join(benchmarks)}"
        elif name in benchmarks:
            called_as, words = f"{program} {name}", words[1:]
        else:
            return _refuse_word(name, "name a benchmark first", benchmarks)
        return command(arguments, lambda args: work(name, args), called_as, about)(words)

    return main


def run_words_command(
    commands: Mapping[str, tuple[type[Arguments], Callable[[Sequence[str], Arguments], int]]],
    program: str,
    description: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs run_command for one of several commands: its name, then words, then flags.

    Args:
        commands: by first word, the flags and the work, which takes the other words and the flags.
        program: the module of the command.
        description: first line of the help.
        argv: the command line; None takes the process's.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        print(f"{_without_call(description)}\n")
        print(f"More: {called(program)} {'|'.join(commands)} ... --help")
        print(f"For example: {example(program)}")
        return 0
    if not words or words[0] not in commands:
        return _refuse_word(words[0] if words else "", "say what to do", commands)
    arguments, work = commands[words[0]]
    rest = words[1:]
    first_flag = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    return run_command(
        arguments,
        lambda args: work(rest[:first_flag], args),
        f"{program} {words[0]}",
        description,
        rest[first_flag:],
    )


def _without_call(description: str) -> str:
    """Returns the first line of a module's documentation without its call, which help adds."""
    return re.sub(r":? ``.*?``", "", description)


def _refuse_word(word: str, wanted: str, known: Collection[str]) -> int:
    """Prints which first words there are; returns the exit status."""
    print(
        f"error: {wanted}, one of: {', '.join(known)}{did_you_mean(word, known)}", file=sys.stderr
    )
    return USER_MISTAKE
