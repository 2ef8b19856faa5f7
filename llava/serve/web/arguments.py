"""The flags of the web page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from llava.arguments import PrunerArguments, budget_flag, flag
from llava.method import DEFAULT_MAX_NEW_TOKENS
from llava.serve.arguments import TryArguments
from llava.serve.web.limits import Limits


@dataclass
class WebArguments(Limits, TryArguments, PrunerArguments):
    """Flags of the command."""

    host: str = flag(
        "Address to listen on; 0.0.0.0 lets other machines in, who then need no more than the "
        "page's address: give --user and --password-file too.",
        "127.0.0.1",
    )
    port: int = flag("Port to listen on.", 7860)
    public_url: Optional[str] = flag(
        "Address of the page in browsers, where it is another: behind a proxy on this machine, "
        "https://demo.example.org or https://example.org/demo."
    )
    user: Optional[str] = flag("Name that a visitor has to give, with one of the three below.")
    password_file: Optional[str] = flag("File with the password that a visitor has to give.")
    password_variable: Optional[str] = flag(
        "Environment variable with the password that a visitor has to give."
    )
    password: Optional[str] = flag(
        "Password that a visitor has to give; others on this machine can read it in the list of "
        "processes."
    )
    visual_token_num: Optional[int] = budget_flag("Where the slider begins.")
    queue_limit: int = flag(
        "Questions, picks of examples and checks of what is entered that may wait; more are turned "
        "away with a message.",
        32,
    )
    max_new_tokens: int = flag("Longest answer in tokens.", DEFAULT_MAX_NEW_TOKENS)
