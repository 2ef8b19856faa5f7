"""The flags of the web page, and the limits on what visitors send and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from llava.arguments import PrunerArguments, budget_flag, flag
from llava.budgets import AskedBudget
from llava.method import DEFAULT_MAX_NEW_TOKENS
from llava.serve.arguments import TryArguments


@dataclass
class Limits:
    """The limits of what visitors may send."""

    max_upload_bytes: int = flag("Largest image file.", 10 * 1024 * 1024)
    max_all_uploads_bytes: int = flag(
        "Room for all uploads together; the oldest make room for another.", 2**30
    )
    upload_age: int = flag("Seconds after which an upload is removed.", 3600)
    # Read from an image's header, before it is decoded.
    max_pixels: int = flag("Largest image, width times height.", 25_000_000)
    max_question_length: int = flag("Longest question in characters.", 1000)


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
    visual_token_num: Optional[AskedBudget] = budget_flag("Where the slider begins.")
    queue_limit: int = flag(
        "Questions, picks of examples and checks of what is entered that may wait; more are turned "
        "away with a message.",
        32,
    )
    max_new_tokens: int = flag("Longest answer in tokens.", DEFAULT_MAX_NEW_TOKENS)


@dataclass(frozen=True)
class Patience:
    """The limits on waiting for browsers, and on their number.

    Attributes:
        head_seconds: For the lines before a request's body, from the first byte to the last.
        idle_seconds: Between two requests of a connection. Clients and load balancers keep one for
            5 to 60 seconds; closed before, it may be closed just when their next request leaves.
        silent_seconds: Without any byte of an incomplete body.
        bytes_per_second: Of a body on average, after silent_seconds; a slow phone sends more.
        unread_seconds: Until a browser reads what is waiting for it.
        refused_seconds: For the end of a refused body, so that its browser can read why.
        wrong_password_seconds: That a wrong password takes.
        end_seconds: For the last answers when the page is stopped.
        connections: At once; the one that has been silent longest makes room for a new one.
    """

    head_seconds: float = 10
    idle_seconds: float = 75
    silent_seconds: float = 20
    bytes_per_second: float = 2_000
    unread_seconds: float = 30
    refused_seconds: float = 60
    wrong_password_seconds: float = 1
    end_seconds: float = 1
    connections: int = 400
