"""Attacks web pages of its own, on this machine: ``python -m tests.load.attack``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from llava.arguments import flag
from llava.errors import UserError
from llava.serve.arguments import TryArguments
from llava.utils.cli import run_command
from tests.load.lasting import killed_rows, stop_rows, upload_rows
from tests.load.process import PASSWORD, USER, Served, served
from tests.load.refusing import forged_rows, login_rows, name_rows
from tests.load.stalling import slow_rows, stalled_rows
from tests.load.table import Row, print_rows
from tests.load.visitor import Visitor

QUOTA, AGE = 12 << 20, 5  # bytes and seconds, of the page whose uploads are filled up


@dataclass
class AttackArguments(TryArguments):
    """Flags of the command."""

    stalled: int = flag("Uploads that stop in the middle.", 60)
    slow: int = flag("Connections whose headers never end.", 300)
    wrong: int = flag("Wrong passwords, one after the other and at once.", 10)
    stops: int = flag("Times that the page is stopped in the middle of answers.", 5)


def attack(args: AttackArguments) -> int:
    """Serves pages, attacks them, and prints a table."""
    for name in ("stalled", "slow", "wrong", "stops"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} is {getattr(args, name)}; it must be at least 1")
    model = ["--model-path", args.model_path, "--device", args.device or "cpu"]
    rows: list[Row] = []
    with TemporaryDirectory(prefix="accm-attack-") as folder:
        password = Path(folder) / "password"
        password.write_text(PASSWORD + "\n")
        flags = [*model, "--user", USER, "--password-file", str(password)]
        with served(flags) as page:
            rows += stalled_rows(page, args.stalled, cookie="")
            rows += stalled_rows(page, args.stalled, _cookie(page))
            rows += slow_rows(page, args.slow)
            rows += name_rows(page)
            rows += forged_rows(page)
            rows += login_rows(page, args.wrong)
        limits = ["--max-all-uploads-bytes", str(QUOTA), "--upload-age", str(AGE)]
        with served([*model, *limits]) as page:
            rows += upload_rows(page, QUOTA, AGE)
        rows += killed_rows(model)
        rows += stop_rows(model, args.stops)
    return print_rows(rows)


def _cookie(page: Served) -> str:
    with Visitor(page.address, USER, PASSWORD) as visitor:
        return "Cookie: " + "; ".join(
            f"{name}={value}" for name, value in visitor.http.cookies.items()
        )


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    return run_command(AttackArguments, attack, "tests.load.attack", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
