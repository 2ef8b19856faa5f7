"""The flags of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from llava.arguments import PrunerArguments, budget_flag, flag, list_flag
from llava.budgets import AskedBudget
from llava.errors import UserError
from llava.files import read_text
from llava.serve.arguments import TryArguments

LOCAL, VLLM = ENGINES = ("local", "vllm")
_KEYS = ("api_key_file", "api_key_variable", "api_key")


@dataclass
class ServeArguments(TryArguments, PrunerArguments):
    """Flags of the command."""

    engine: str = flag(
        "What generates: local (this process), or vllm (servers of vLLM at --engine-urls, which "
        "have the LLM alone; see docs/serving.md).",
        LOCAL,
        choices=ENGINES,
    )
    engine_urls: List[str] = list_flag(
        "With --engine vllm: addresses of its servers, as http://127.0.0.1:8001.", []
    )
    front_device: Optional[str] = flag(
        "With --engine vllm: device of the vision tower and the captions, which are all that runs "
        "here. Default: --device."
    )
    host: str = flag(
        "Address to listen on; 0.0.0.0 lets other machines in: give --api-key-file too.",
        "127.0.0.1",
    )
    port: int = flag("Port to listen on.", 8000)
    served_model_name: Optional[str] = flag(
        "Name under which clients ask for the model. Default: the last part of --model-path."
    )
    api_key_file: Optional[str] = flag("File with the key that clients have to give.")
    api_key_variable: Optional[str] = flag("Environment variable with that key.")
    api_key: Optional[str] = flag(
        "That key; others on this machine can read it in the list of processes."
    )
    visual_token_num: Optional[AskedBudget] = budget_flag(
        "Visual tokens to keep where a request does not say."
    )
    batch_size: int = flag("Most questions at once in the model.", 32)
    batch_ms: float = flag(
        "Milliseconds that a question waits for others while nothing is being answered.", 5.0
    )
    max_new_tokens: int = flag(
        "Longest answer in tokens, and the limit of one whose request names none.", 512
    )
    max_in_flight: int = flag("Requests at once; others get the status 429.", 128)
    max_request_bytes: int = flag("Largest request, with its image.", 16 * 1024 * 1024)
    max_image_bytes: int = flag("Largest image file.", 10 * 1024 * 1024)
    max_pixels: int = flag("Largest image, width times height.", 25_000_000)
    max_characters: int = flag("Characters of all messages of a request together.", 20_000)
    max_seconds: float = flag("Longest time of an answer.", 300.0)
    image_hosts: List[str] = list_flag(
        "Hosts whose images may be named by http and https URLs. Default: none; data: URLs always "
        "may.",
        [],
    )
    cache_bytes: int = flag(
        "Memory for encoded images and for keys and values that later questions share.", 2**30
    )
    drain_seconds: float = flag(
        "After SIGTERM: time for running answers to end, before their clients are told.", 20.0
    )


def check_flags(args: ServeArguments) -> None:
    """Refuses impossible settings and combinations, before a model is loaded.

    Raises:
        UserError: names the flag.
    """
    for name in ("batch_size", "max_new_tokens", "max_in_flight", "max_request_bytes"):
        _check(args, name, getattr(args, name) >= 1, "at least 1")
    for name in ("max_image_bytes", "max_pixels", "max_characters", "max_seconds"):
        _check(args, name, getattr(args, name) >= 1, "at least 1")
    for name in ("batch_ms", "cache_bytes", "drain_seconds"):
        _check(args, name, 0 <= getattr(args, name) < float("inf"), "at least 0")
    _check(args, "max_seconds", args.max_seconds < float("inf"), "a number of seconds")
    _check(args, "port", 1 <= args.port < 2**16, f"a whole number from 1 to {2**16 - 1}")
    if args.engine not in ENGINES:
        raise UserError(f"there is no --engine {args.engine!r}: one of {', '.join(ENGINES)}")
    if (args.engine == VLLM) != bool(args.engine_urls):
        raise UserError(
            "--engine vllm and --engine-urls go together: give both, or none for --engine local"
        )
    if args.front_device is not None and args.engine != VLLM:
        raise UserError(
            "--front-device goes with --engine vllm, where the LLM is elsewhere: give --device"
        )
    if len([name for name in _KEYS if getattr(args, name) is not None]) > 1:
        raise UserError("give one of --api-key-file, --api-key-variable and --api-key")


def _check(args: ServeArguments, name: str, is_good: bool, possible: str) -> None:
    if not is_good:
        raise UserError(f"--{name.replace('_', '-')} is {getattr(args, name)}: {possible}")


def read_key(args: ServeArguments, environment: Mapping[str, str]) -> str | None:
    """Returns the key that clients have to give; None if everybody may ask.

    Raises:
        UserError: it is not in the place that the flags name, or not valid.
    """
    if args.api_key_file is not None:
        key = read_text(Path(args.api_key_file)).strip()
    elif args.api_key_variable is not None:
        key = environment.get(args.api_key_variable, "")
    elif args.api_key is not None:
        key = args.api_key
    else:
        return None
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise UserError(
            "the key is empty, or has other characters than a header can hold: write letters and "
            "digits where --api-key-file, --api-key-variable or --api-key says"
        )
    return key
