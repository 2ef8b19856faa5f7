"""Chat about an image in the terminal: ``python -m llava.serve.cli``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Optional

from llava.errors import UserError
from llava.eval.arguments import DecodingArguments, budget_flag
from llava.eval.command import run_command
from llava.image_url import open_image
from llava.model.builder import flag, load_from_arguments
from llava.model.locate import path_flag
from llava.model.sample import DEFAULT_SEED
from llava.model.token_pruning.budget import resolve_budget
from llava.serve.arguments import TryArguments
from llava.serve.chat import Chat, why
from llava.serve.likeness import warning_of

COMMANDS = """\
/image FILE   ask about another image, a file or a URL
/tokens K     keep K visual tokens of the image from now on
/why          how the last answer came about
/clear        forget the conversation so far
/help         this list
/quit         the end"""


@dataclass
class CliArguments(TryArguments, DecodingArguments):
    """Flags of the command."""

    image_file: str = path_flag("The image to begin with: a file, or a URL.", "images/scene.png")
    visual_token_num: Optional[int] = budget_flag("Visual tokens to keep.")
    seed: int = flag("Seed of the random draws of each question.", DEFAULT_SEED)
    max_new_tokens: int = flag("Longest answer in tokens.", 512)


def chat(args: CliArguments) -> int:
    """Loads the model, and answers until the end of the input."""
    args.check_decoding()
    image = open_image(args.image_file, upright=True)
    model = load_from_arguments(args)
    if args.visual_token_num is not None:
        resolve_budget(args.visual_token_num, None, model.tower.num_patches)
    talk = Chat(
        model,
        image,
        args.visual_token_num,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
        temperature=args.temperature,
        top_p=args.top_p,
        num_beams=args.num_beams,
    )
    print(f"{args.model_path}, about {args.image_file}. /help lists what can be typed.", flush=True)
    if model.about.line is not None:
        print(f"{model.about.line}.", flush=True)
    _warn(talk)
    while True:
        try:
            line = input("USER: ").strip()
        except EOFError:
            print()
            return 0
        if line in ("/quit", "/exit"):
            return 0
        try:
            _turn(talk, line)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("\n(stopped)", flush=True)


def _turn(talk: Chat, line: str) -> None:
    """Does what a line asks for.

    Raises:
        UserError: it cannot be done.
    """
    command, _, rest = line.partition(" ")
    if not line.startswith("/"):
        if line:
            print("ASSISTANT: ", end="", flush=True)
            talk.ask(line, lambda text: print(text, end="", flush=True))
            print(flush=True)
    elif command == "/image":
        if not rest.strip():
            raise UserError("say which: /image FILE, or /image URL")
        talk.show(open_image(rest.strip(), upright=True))
        print(f"about {rest.strip()} now", flush=True)
        _warn(talk)
    elif command == "/tokens":
        _set_tokens(talk, rest.strip())
    elif command == "/why":
        if talk.last is None:
            raise UserError("nothing was asked yet")
        print(why(talk.last, talk.model.tower.num_patches), flush=True)
    elif command == "/clear":
        talk.clear()
    elif command == "/help":
        print(COMMANDS, flush=True)
    else:
        raise UserError(f"there is no command {command}; /help lists them")


def _warn(talk: Chat) -> None:
    """Warns where the picture is far from what the model knows."""
    if unlike := warning_of(talk.model.about, talk.image):
        print(f"warning: {unlike}", file=sys.stderr, flush=True)


def _set_tokens(talk: Chat, number: str) -> None:
    """Sets the budget.

    Raises:
        UserError: it is none.
    """
    patches = talk.model.tower.num_patches
    if not number.isdecimal() or len(number) > 9:  # Python reads no number of 5,000 digits
        raise UserError(f"/tokens wants a whole number from 1 to {patches}, not {number!r}")
    resolve_budget(int(number), None, patches)
    talk.visual_token_num = int(number)
    print(f"{number} of {patches} visual tokens from now on", flush=True)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_command(CliArguments, chat, "llava.serve.cli", __doc__.splitlines()[0], argv)


if __name__ == "__main__":
    sys.exit(main())
