"""Connections that keep the page waiting, and a visitor of good will meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import httpx
from tqdm import tqdm

from llava.errors import UserError
from tests.load.process import PASSWORD, USER, Served
from tests.load.raw import connect, head, seconds_until_cut, upload_head
from tests.load.scene import QUESTION, scene
from tests.load.table import Row
from tests.load.visitor import Visitor

UPLOAD = 10 << 20  # bytes, the page's default limit


def stalled_rows(page: Served, count: int, cookie: str) -> list[Row]:
    """Uploads of almost all their bytes, and then nothing more."""
    who = "visitors" if cookie else "strangers"
    data = bytes(UPLOAD - 100_000)

    def stall(_: int) -> object:
        client = connect(page.address)
        client.settimeout(3)
        try:
            client.sendall(upload_head(page.address, UPLOAD, *([cookie] if cookie else [])) + data)
        except (TimeoutError, ConnectionError):  # the page takes no more, or has cut it already
            pass
        return client

    before = _memory_in_use(page)
    with ThreadPoolExecutor(16) as pool, _Honest(page) as honest:
        clients = list(pool.map(stall, range(count)))
        seen = [page.memory()]
        cut = seconds_until_cut(clients, 60, lambda: seen.append(page.memory()))
    return _cut_rows(f"stalled uploads of {who}", cut, max(seen) - before, honest)


def slow_rows(page: Served, count: int) -> list[Row]:
    """Headers of which a line comes now and then."""
    before = _memory_in_use(page)
    clients = [connect(page.address) for _ in range(count)]
    seen = []

    def drip() -> None:
        seen.append(page.memory())
        for client in clients:
            try:
                client.send(b"X-More: y\r\n")
            except OSError:
                continue

    with _Honest(page) as honest:
        for client in clients:
            client.sendall(head(page.address, "GET /"))
        cut = seconds_until_cut(clients, 60, drip)
    return _cut_rows("slow headers", cut, max(seen) - before, honest)


def _memory_in_use(page: Served) -> float:
    """Returns the MB that a page takes after it has answered: its first answers take more."""
    with _Honest(page):
        time.sleep(5)
    return page.memory()


def _cut_rows(name: str, cut: Sequence[float | None], memory: float, honest: _Honest) -> list[Row]:
    never = sum(seconds is None for seconds in cut)
    slowest = max((seconds for seconds in cut if seconds is not None), default=0)
    return [
        Row(name, str(len(cut))),
        Row(f"{name}: MB that they cost", f"{memory:.0f}", memory < 100),
        Row(f"{name}: seconds until the last was cut", f"{slowest:.0f}", slowest < 30),
        Row(f"{name}: never cut", str(never), not never),
        *honest.rows(name),
    ]


class _Honest:
    """A visitor of good will, who logs in, uploads and asks while a page is attacked."""

    def __init__(self, page: Served) -> None:
        self._page = page
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._visit)
        self._seconds: list[float] = []
        self._failures: list[str] = []

    def __enter__(self) -> _Honest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _visit(self) -> None:
        while not self._done.is_set():
            start = time.monotonic()
            try:
                with Visitor(self._page.address, USER, PASSWORD) as visitor:
                    visitor.ask(visitor.upload(scene()), QUESTION, 9)
                self._seconds.append(time.monotonic() - start)
            except (UserError, httpx.HTTPError) as error:
                self._failures.append(repr(error))
            self._done.wait(0.5)

    def rows(self, name: str) -> list[Row]:
        """Returns how it was served."""
        for failure in self._failures[:3]:
            tqdm.write(f"not served: {failure}", file=sys.stderr)
        middle = median(self._seconds) if self._seconds else 0
        served = f"{len(self._seconds)} of {len(self._seconds) + len(self._failures)}"
        return [
            Row(f"{name}: honest visits served meanwhile", served, not self._failures),
            Row(f"{name}: seconds of one, median", f"{middle:.1f}"),
        ]
