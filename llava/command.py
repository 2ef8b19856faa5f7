"""The command of all subcommands: ``accm``, or ``python -m llava`` without an installation.

A subcommand is a module with a main function, imported on use: the help appears at once, without
torch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from llava.constants import BENCHMARKS
from llava.errors import did_you_mean, shown
from llava.version import find_version

USER_MISTAKE = 2  # exit status, as argparse's own
STOPPED = 130  # exit status after Ctrl-C


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        module: its main takes the words that follow, and returns the exit status.
        does: a line of the help.
        example: words and flags that may follow its name.
        words: the possible first words after its name; empty if flags follow.
    """

    module: str
    does: str
    example: str = ""
    words: tuple[str, ...] = ()


# The parts that accm train trains: three of LLaVA-1.5, then those of the mini model.
STAGES = {
    "caption": Command("llava.train.train_caption", "the caption model, on images and captions"),
    "selector": Command("llava.train.train_selector", "the selector, where captions differ"),
    "compensation": Command("llava.train.train_compensation", "both together, taught by the LLM"),
    "clip": Command("llava.train.train_clip", "the mini model's CLIP"),
    "projector": Command("llava.train.train_projector", "the mini model's projector"),
    "llava": Command("llava.train.train_llava", "the mini model's projector and LLM"),
    "long-clip": Command("llava.train.train_long_clip", "the mini model's LongCLIP"),
    "scene-graph": Command("llava.train.train_scene_graph", "the mini model's relation model"),
}

_MODEL = "checkpoints/llava-v1.5-7b"
COMMANDS = {
    "chat": Command(
        "llava.serve.cli",
        "ask about an image in the terminal",
        "--image-file images/scene.png --visual-token-num 9",
    ),
    "web": Command(
        "llava.serve.web.__main__",
        "ask in the browser: full and pruned answers side by side",
        "--visual-token-num 9",
    ),
    "serve": Command(
        "llava.serve.openai.__main__",
        "serve OpenAI's interface, many questions at once",
        "--visual-token-num 9",
    ),
    "answer": Command(
        "llava.eval.answer",
        "answer a benchmark",
        f"pope --model-path {_MODEL} --answers-file pope.jsonl",
        BENCHMARKS,
    ),
    "score": Command(
        "llava.eval.score",
        "score the answers",
        "pope --answers-file pope.jsonl --json pope.json",
        BENCHMARKS,
    ),
    "sweep": Command(
        "llava.eval.sweep",
        "answer and score benchmarks with several methods and budgets",
        f"--model-path {_MODEL} --benchmarks pope",
    ),
    "report": Command(
        "llava.eval.report.__main__",
        "set scores side by side: HTML, Markdown, CSV",
        "outputs/sweep/*/*.json --output report",
    ),
    "trace": Command(
        "llava.eval.trace",
        "everything that happened to a question, as JSON and a picture",
        "--model-path checkpoints/accm-mini --image images/scene.png "
        '--question "What color is the star?" --figure trace.png',
    ),
    "replay": Command(
        "llava.eval.replay",
        "run published pruners on recorded cases",
        "--cases cases.json --inputs inputs.npz --output out.jsonl",
    ),
    "benchmarks": Command(
        "llava.benchmarks.__main__",
        "download the benchmarks' data, and verify them",
        "download pope gqa",
        ("download", "verify"),
    ),
    "checkpoints": Command(
        "llava.checkpoints.__main__",
        "download, verify and convert weights",
        "download all",
        ("download", "verify", "convert"),
    ),
    "bench": Command(
        "llava.eval.bench.__main__",
        "measure what pruning and captions cost and save",
        "--model-path checkpoints/accm-mini --budgets 9 36",
    ),
    "train": Command(
        "llava.train.__main__",
        "train a part of the method",
        "caption --help",
        tuple(STAGES),
    ),
    "completion": Command(
        "llava.completion",
        "print what lets bash or zsh complete commands and flags",
        "bash > ~/.local/share/bash-completion/completions/accm",
        ("bash", "zsh"),
    ),
}

_ALL = COMMANDS | {f"train {name}": stage for name, stage in STAGES.items()}
_NAMES = {command.module.removesuffix(".__main__"): name for name, command in _ALL.items()}

_TITLE = "Models that read fewer visual tokens, and a caption for what these showed."
_SHOWN = ("chat", "web", "checkpoints", "sweep")  # commands whose examples the help shows


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, which passes on to a subcommand."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        print(f"accm {find_version()}")
        return 0
    name = _started_as() or "accm"
    examples = [f"{name} {key} {COMMANDS[key].example}" for key in _SHOWN]
    return hand_on(COMMANDS, words, name, _TITLE, examples)


def hand_on(
    commands: Mapping[str, Command],
    words: Sequence[str],
    name: str,
    title: str,
    examples: Sequence[str] = (),
) -> int:
    """Runs the subcommand that the first word names, with the other words.

    Args:
        commands: subcommands by name.
        words: words of the command line.
        name: the user's command that has these subcommands.
        title: its description.
        examples: last lines of the help.

    Returns:
        The exit status.
    """
    first = words[0] if words else ""
    if first in commands:
        try:
            return import_module(commands[first].module).main(words[1:])
        except KeyboardInterrupt:  # before the subcommand could handle it
            print("stopped by the user", file=sys.stderr)
            return STOPPED
    if first in ("-h", "--help", ""):
        text = _help(commands, name, title, examples)
        print(text, file=sys.stdout if first else sys.stderr)
        return 0 if first else USER_MISTAKE
    problem = f"there is no command {shown(first)}{did_you_mean(first, commands)}"
    print(f"error: {problem}; {name} --help lists all", file=sys.stderr)
    return USER_MISTAKE


def _help(commands: Mapping[str, Command], name: str, title: str, examples: Sequence[str]) -> str:
    lines = [f"usage: {name} COMMAND [flags]", "", title, ""]
    lines += [f"  {key:<14}{command.does}" for key, command in commands.items()]
    lines += ["", f"{name} COMMAND --help tells a command's flags.{' Examples:' * bool(examples)}"]
    lines += [f"  {line}" for line in examples]
    return "\n".join(lines)


def called(program: str) -> str:
    """Returns the command line with which this process's user calls a module.

    Args:
        program: name of the module, and words that follow.
    """
    module, *words = program.split(" ", 1)
    name = _NAMES.get(module)
    started_as = _started_as()
    if name is None or started_as is None:
        return f"python -m {program}"
    return " ".join([started_as, name, *words])


def example(program: str) -> str:
    """Returns an example command line for the help of a module; "" if there is none.

    Args:
        program: name of the module, and perhaps words with which the example begins.
    """
    module, *words = program.split(" ", 1)
    of = _ALL[_NAMES[module]].example if module in _NAMES else ""
    is_fitting = not words or "|" in words[0] or of.startswith(f"{words[0]} ")
    return f"{called(module)} {of}" if of and is_fitting else ""


def _started_as() -> str | None:
    """Returns the command as this process's user typed it; None if it is another program."""
    program = Path(sys.argv[0])
    if program.stem == "accm":
        return "accm"
    is_package = program.name == "__main__.py" and program.parent.name == "llava"
    return "python -m llava" if is_package else None
