"""What is left of uploads and of pages, and how a page ends."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from tqdm import tqdm

from llava.errors import UserError
from llava.serve.web.answering import STOPPED
from tests.load.odd_uploads import odd_uploads
from tests.load.process import Served, served
from tests.load.raw import ask, connect, head, upload_head
from tests.load.scene import ANSWER, QUESTION, scene
from tests.load.table import Row
from tests.load.visitor import Visitor

_ASKING = 8  # visitors at once


def upload_rows(page: Served, quota: int, age: int) -> list[Row]:
    """Sends odd forms and more files than there is room for; looks at what is left of them.

    Args:
        page: To be attacked.
        quota: Bytes for all uploads.
        age: Seconds that they are kept.
    """
    before = set(_files(page))
    odd = odd_uploads(page.address, scene())
    statuses = {kind: ask(page.address, request)[9:12] for kind, request in odd.items()}
    broken = [kind for kind, status in statuses.items() if status.startswith(b"5")]
    most = 0
    with Visitor(page.address) as visitor:
        for number in range(8):
            visitor.upload(bytes([number]) * (3 << 20))
            most = max(most, _bytes(set(_files(page)) - before))
        time.sleep(age + 3)
        left = set(_files(page)) - before
        new = visitor.ask(visitor.upload(scene()), QUESTION, 9)["full"]["text"] == ANSWER
    return [
        Row("odd uploads", str(len(odd))),
        Row("answered with HTTP 500", str(len(broken)), not broken),
        Row(
            f"MB of uploads at most, where {quota / 1e6:.1f} are allowed",
            f"{most / 1e6:.1f}",
            most <= quota,
        ),
        Row("files left after their age", str(len(left)), not left),
        Row("a new one is still answered", str(new), new),
    ]


def killed_rows(model: Sequence[str]) -> list[Row]:
    """Looks at what a page that was killed has left, with another one beside it."""
    with TemporaryDirectory(prefix="accm-attack-") as name:
        folder = Path(name)
        with served(model, folder) as other, Visitor(other.address) as visitor:
            kept = visitor.upload(scene())
            with served(model, folder) as page, Visitor(page.address) as victim:
                left = Path(victim.upload(scene())["path"])
                page.process.send_signal(signal.SIGKILL)
                page.process.wait(10)
            was_there = left.exists()
            with served(model, folder):
                is_gone = was_there and not left.exists()
                answer = visitor.ask(kept, QUESTION, 9)["full"]["text"]
        rest = list(folder.glob("accm-web-*"))
    return [
        Row("uploads of a killed page are removed at the next start", str(is_gone), is_gone),
        Row("those of a page beside it are not", str(answer == ANSWER), answer == ANSWER),
        Row("folders after the end of all", str(len(rest)), not rest),
    ]


def stop_rows(model: Sequence[str], stops: int) -> list[Row]:
    """Sends SIGTERM in the middle of answers, with stalled connections of every kind."""
    seconds, ends = [], []
    for _ in tqdm(range(stops), desc="stopped", leave=False):
        with served(model) as page, ThreadPoolExecutor(_ASKING) as pool:
            clients = [connect(page.address) for _ in range(20)]
            for number, client in enumerate(clients):
                beginnings = head(page.address, "GET /"), upload_head(page.address, 1 << 20)
                client.sendall(beginnings[number % 2])
            all_ask = threading.Barrier(_ASKING + 1)
            asking = [
                pool.submit(_ask_until_the_end, page.address, all_ask, number % 2 == 0)
                for number in range(_ASKING)
            ]
            all_ask.wait()
            time.sleep(0.5)
            start = time.monotonic()
            page.process.terminate()
            page.process.wait(30)
            seconds.append(time.monotonic() - start)
            ends += [each.result() for each in asking]
            for client in clients:
                client.close()
    waited = [end for end in ends if end]
    told = sum(STOPPED in end for end in waited)
    for end in waited:
        if STOPPED not in end:
            tqdm.write(f"not told: {end}", file=sys.stderr)
    return [
        Row("seconds from SIGTERM to the end, at most", f"{max(seconds):.1f}", max(seconds) < 3),
        Row("visitors who waited and were told", f"{told} of {len(waited)}", told == len(waited)),
    ]


def _ask_until_the_end(address: str, all_ask: threading.Barrier, as_program: bool) -> str:
    """Asks as fast as answers come, until the page is gone.

    Returns:
        The last that the page said to a question; nothing where none waited for an answer.
    """
    session = f"s{threading.get_ident()}"
    with Visitor(address) as visitor:
        upload = visitor.upload(scene())
        all_ask.wait()
        while True:
            body = {"data": [upload, QUESTION, 9], "fn_index": 0, "session_hash": session}
            try:
                if as_program:
                    source = f"/gradio_api/call/ask/{visitor.begin(*body['data'])}"
                else:
                    visitor.join(body)
                    source = f"/gradio_api/queue/data?session_hash={session}"
            except httpx.ConnectError:
                return ""
            except (UserError, httpx.HTTPError) as error:
                return str(error)
            try:
                said = visitor.http.get(source).text
            except httpx.HTTPError as error:
                return f"cut in the middle: {error!r}"
            if STOPPED in said:
                return said[-300:]


def _files(page: Served) -> list[Path]:
    return [path for path in page.folder.rglob("*") if path.is_file()]


def _bytes(files: set[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.exists())
