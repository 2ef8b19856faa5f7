"""A web server on loopback that stands in for the hub and for the benchmarks' homes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = 1000  # bytes; larger files have a sha256, as with Git LFS


class Asked(NamedTuple):
    """One question about a path.

    Attributes:
        content: what the path has.
        number: how often it was asked about, this time included.
        start: of the Range, None where all is asked for.
        stop: of the Range, without it.
        url: of the server.
        closing: is set when the server is closed.
    """

    content: bytes
    number: int
    start: int | None
    stop: int | None
    url: str
    closing: threading.Event


# Gives the bytes that are sent, head and all, before the line is cut; None for the usual answer.
Behaviour = Callable[[Asked], Iterable[bytes] | None]


class Web:
    """Gives files, whole and in parts, and fails as it is told to.

    Attributes:
        files: contents by path ("/folder/name").
        requests: what was asked for: method, path, and Range or None.
        logins: the Authorization of each request that had one.
        moved: other addresses that those who ask for a path are sent to.
        cuts: after how many bytes the next answer about a path ends too early; used up by it.
        stalls: after how many bytes answers about a path stop until the server is closed.
        shifts: by how many bytes too late parts of a path begin.
        answers: status codes that the next answers about a path have; used up by them.
        ranges: whether parts of files are given.
        behaviours: what is sent by path in place of the usual answer.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.logins: list[str] = []
        self.moved: dict[str, str] = {}
        self.cuts: dict[str, int] = {}
        self.stalls: dict[str, int] = {}
        self.shifts: dict[str, int] = {}
        self.answers: dict[str, list[int]] = {}
        self.ranges = True
        self.behaviours: dict[str, Behaviour] = {}
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None  # clients that leave are part of the tests
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def add_repository(self, name: str, files: dict[str, bytes], kind: str = "model") -> str:
        """Adds a repository of the hub; returns where its files are ("/owner/name/resolve/...")."""
        prefix = "/datasets" if kind == "dataset" else ""
        siblings = []
        for path, content in files.items():
            sibling = {"rfilename": path, "size": len(content), "blobId": git_sha1(content)}
            if len(content) > _LARGE:
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 100}
            siblings.append(sibling)
            for revision in (COMMIT, "main"):
                self.files[f"{prefix}/{name}/resolve/{revision}/{path}"] = content
        about = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
        self.files[f"/api/{kind}s/{name}"] = json.dumps(about).encode()
        return f"{prefix}/{name}/resolve/{COMMIT}"

    def fetched(self, path: str) -> list[str | None]:
        """The Ranges of all GETs of a path."""
        return [part for method, asked, part in self.requests if (method, asked) == ("GET", path)]

    def close(self) -> None:
        """Stops; answers that stall end."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def git_sha1(content: bytes) -> str:
    """Git's name of a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    web: Web

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, web = unquote(urlsplit(self.path).path), self.web
        web.requests.append(("GET", path, self.headers.get("Range")))
        if login := self.headers.get("Authorization"):
            web.logins.append(login)
        if web.answers.get(path):
            return self._answer(web.answers[path].pop(0), b"", {})
        if path in web.moved:
            return self._answer(302, b"", {"Location": web.moved[path]})
        content = web.files.get(path)
        if content is None:
            return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if path in web.behaviours and self._behave(path, content, match):
            return None
        if not match or not web.ranges:
            return self._answer(200, content, {}, path)
        start = int(match[1]) + web.shifts.get(path, 0)
        stop = min(int(match[2] or len(content)) + 1, len(content))
        if start >= len(content):
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        where = f"bytes {start}-{stop - 1}/{len(content)}"
        return self._answer(206, content[start:stop], {"Content-Range": where}, path)

    def _behave(self, path: str, content: bytes, match: re.Match | None) -> bool:
        """Whether the behaviour of a path has answered."""
        start, stop = (
            (int(match[1]), int(match[2] or len(content) - 1) + 1) if match else (None,) * 2
        )
        number = len(self.web.fetched(path))
        asked = Asked(content, number, start, stop, self.web.url, self.web.closing)
        pieces = self.web.behaviours[path](asked)
        if pieces is None:
            return False
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        return True

    def _answer(self, status: int, content: bytes, headers: dict, path: str = "") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut = self.web.cuts.pop(path, None)
        stall = self.web.stalls.get(path)
        self.wfile.write(content[: stall if cut is None else cut])
        if stall is not None and stall < len(content):
            self.wfile.flush()
            self.web.closing.wait(60)
        if cut is not None or stall is not None:
            self.close_connection = True
