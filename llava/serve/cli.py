"""Chat about an image in the terminal: ``python -m llava.serve.cli``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from llava.arguments import DecodingArguments, PrunerArguments, flag, path_flag
from llava.budgets import read_budget
from llava.errors import UserError
from llava.image_url import open_image
from llava.method import Method, given_options
from llava.mini.likeness import warning_of
from llava.serve.arguments import TryArguments
from llava.serve.chat import NO_WORDS, Chat, why
from llava.serve.commands import HELP, image_name, read_tokens, split_command
from llava.serve.interrupts import ctrl_c, interrupt_once
from llava.serve.terminal import Terminal, open_terminal
from llava.utils.cli import command


@dataclass
class CliArguments(TryArguments, DecodingArguments, PrunerArguments):
    """Flags of the command."""

    image_file: str = path_flag("The image to begin with: a file, or a URL.", "images/scene.png")
    max_new_tokens: int = flag("Longest answer in tokens.", 512)
    history: bool = flag(
        "Keep what is typed at a terminal for later chats, in ~/.local/state/accm/chat-history.",
        True,
    )


def chat(args: CliArguments) -> int:
    """Loads the model, and answers until the end of the input."""
    from llava.model.builder import load_from_arguments
    from llava.model.sample import Sample
    from llava.model.token_pruning.registry import resolved

    args.check_decoding()
    resolved(args.method)
    image = open_image(args.image_file, upright=True)
    model = load_from_arguments(args)
    if args.visual_token_num is not None:
        model.budget(args.method)
    how = vars(args.method) | args.decoding() | {"max_new_tokens": args.max_new_tokens}
    asked = Sample(image, "", image_name=Path(args.image_file).name, **how)
    talk = Chat(model, asked, asks_alone=model.about.conversations == "no")
    terminal = open_terminal(args.history)
    about = f"about {args.image_file}" + ", each question by itself" * talk.asks_alone
    terminal.write(f"{args.model_path}, {about}. /help lists what can be typed.")
    if model.about.line is not None:
        terminal.write(f"{model.about.line}.")
    _warn(talk, image, terminal)
    while True:
        try:
            return _converse(talk, terminal)
        except KeyboardInterrupt:  # between a line and its answer
            if not terminal.is_typed:
                raise


def _converse(talk: Chat, terminal: Terminal) -> int:
    """Answers until the end of the input."""
    while (line := terminal.read()) is not None and line.strip() not in ("/quit", "/exit"):
        with ctrl_c(interrupt_once):
            try:
                _turn(talk, terminal, line.strip())
            except UserError as error:
                terminal.complain(f"error: {error}")
            except KeyboardInterrupt:
                if not terminal.is_typed:
                    raise
                terminal.write("\n(stopped)", "aside")
    return 0


def _turn(talk: Chat, terminal: Terminal, line: str) -> None:
    """Carries out a line: a command or a question.

    Raises:
        UserError: it cannot be carried out.
    """
    if not line.startswith("/"):
        if line:
            _ask(talk, terminal, line)
        return
    command, rest = split_command(line)
    if command == "/image":
        name = image_name(rest)
        image = open_image(name, upright=True)
        talk.show(image, Path(name).name)
        terminal.write(f"about {name} now")
        _warn(talk, image, terminal)
    elif command == "/tokens":
        _tokens(talk, terminal, rest)
    elif command == "/pruner":
        _pruner(talk, terminal, rest)
    elif command == "/why":
        if talk.last is None:
            raise UserError("nothing was asked yet")
        terminal.write(why(talk.last, talk.model.count_tokens(talk.asked.image)), "aside")
    elif command == "/clear":
        talk.clear()
        terminal.write("the conversation is forgotten; the next question is its first", "aside")
    elif command == "/help":
        terminal.write(HELP)


def _ask(talk: Chat, terminal: Terminal, question: str) -> None:
    """Shows the answer to a question as it is decoded, and says so if it is empty.

    Raises:
        UserError: it cannot be answered.
    """
    terminal.write("ASSISTANT: ", "label", end="")
    try:
        answer = talk.ask(question, lambda text: terminal.write(text, "answer", end=""))
    except UserError:
        terminal.write("(no answer)", "aside")
        raise
    terminal.write("" if answer.text else "(no words)", "aside")
    if not answer.text:
        terminal.complain(f"warning: {NO_WORDS}")


def _warn(talk: Chat, image: Image.Image, terminal: Terminal) -> None:
    """Warns if the picture is far from the kind that the model knows."""
    if unlike := warning_of(talk.model.about, image):
        terminal.complain(f"warning: {unlike}")


def _tokens(talk: Chat, terminal: Terminal, words: str) -> None:
    """Sets the number or share of kept visual tokens, and shows the number.

    Raises:
        UserError: the words are neither.
    """
    model = talk.model
    if words:
        read_tokens(words, model.count_tokens())
        talk.asked = replace(talk.asked, visual_token_num=read_budget(words))
    asked, patches = talk.asked.visual_token_num, model.count_tokens(talk.asked.image)
    kept = model.budget(talk.asked).visual_token_num
    said = f"{kept} of {patches} visual tokens"
    if isinstance(asked, int) and asked > patches:
        said = f"{asked} visual tokens, of which this image has {patches},"
    terminal.write(said.rstrip("," * (not words)) + " from now on" * bool(words))


def _pruner(talk: Chat, terminal: Terminal, words: str) -> None:
    """Sets what chooses the visual tokens, and shows it.

    Raises:
        UserError: there is no such pruner, or it has no such option.
    """
    from llava.model.token_pruning.registry import resolved

    if words:
        name, *options = words.split()
        new = resolved(Method(pruner=name, pruner_options=options))
        talk.asked = replace(talk.asked, pruner=new.pruner, pruner_options=new.pruner_options)
    chosen = given_options(talk.asked.pruner_options)
    said = " ".join(f"{name}={value}" for name, value in chosen.items())
    terminal.write(f"pruner {talk.asked.pruner} {said}".rstrip() + " from now on" * bool(words))


main = command(CliArguments, chat, "llava.serve.cli", __doc__)

if __name__ == "__main__":
    sys.exit(main())
