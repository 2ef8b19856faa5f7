"""A web page to ask about images: ``python -m llava.serve.web``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llava.errors import UserError
from llava.extras import missing_package
from llava.files import read_text
from llava.serve.web.address import check_public_url, listen
from llava.serve.web.arguments import WebArguments
from llava.utils.cli import command

_PASSWORDS = ("password_file", "password_variable", "password")


def serve(args: WebArguments) -> int:
    """Loads the model and serves the page until it is stopped."""
    check_flags(args)
    args = replace(args, password=read_password(args, os.environ))
    from llava.model.builder import load_from_arguments

    try:
        from llava.serve.web.server import run  # Gradio is an extra
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise missing_package("the web page", "gradio", "web") from error
    listen(args.host, args.port).close()
    for number in (signal.SIGTERM, signal.SIGHUP):  # cleans up as after Ctrl-C
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, signal.default_int_handler)
    return run(load_from_arguments(args), args)


def check_flags(args: WebArguments) -> None:
    """Refuses impossible settings and combinations.

    Raises:
        UserError: A number is too small, the public address is invalid, or only one of name and
            password is given.
    """
    for name in (
        "queue_limit",
        "max_upload_bytes",
        "upload_age",
        "max_pixels",
        "max_question_length",
    ):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(args, name)}: at least 1")
    if args.max_all_uploads_bytes < args.max_upload_bytes:
        raise UserError(
            f"--max-all-uploads-bytes is {args.max_all_uploads_bytes}: at least "
            f"--max-upload-bytes, {args.max_upload_bytes}"
        )
    if not 1 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}: a whole number from 1 to {2**16 - 1}")
    if args.public_url:
        check_public_url(args.public_url)
    given = [name for name in _PASSWORDS if getattr(args, name) is not None]
    if len(given) > 1 or (args.user is None) != (not given):
        raise UserError(
            "--user and one of --password-file, --password-variable and --password go together: "
            "give both, or none"
        )
    if args.user is not None and (args.user != args.user.strip() or not args.user):
        raise UserError("--user is empty, or begins or ends with a blank: name it without")


def read_password(args: WebArguments, environment: Mapping[str, str]) -> str | None:
    """Returns the password of the page; None if everybody may use it.

    Raises:
        UserError: It is not in the place that the flags name, or not valid.
    """
    if args.user is None:
        return None
    password: str | None
    if args.password_file is not None:
        password = read_text(Path(args.password_file)).rstrip("\n")
    elif args.password_variable is not None:
        password = environment.get(args.password_variable, "")
    else:
        password = args.password
    if not password or not password.isprintable():
        raise UserError(
            "the password is empty, or has other characters than a person can type: write one "
            "line where --password-file, --password-variable or --password says"
        )
    return password


main = command(WebArguments, serve, "llava.serve.web", __doc__)

if __name__ == "__main__":
    sys.exit(main())
