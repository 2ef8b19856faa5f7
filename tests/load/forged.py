"""Requests that are shaped to make the page stumble."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from tests.load.visitor import Visitor

_JSON = {"Content-Type": "application/json"}
_JOIN, _CALL = "/gradio_api/queue/join", "/gradio_api/call/ask"
_DEEP = b"[" * 100_000 + b"]" * 100_000
# JSON that Python reads and nothing else does, or that is too large for anything.
_NUMBERS = (b"1e400", b"-1e400", b"NaN", b"Infinity", b"9" * 5_000, b"9" * 30, b"-0.0", b"1.5")
_WRONG = (b"null", b"true", b'"x"', b"[]", b"{}", b'""', b'"\\ud800"', b'"\\u0000"', _DEEP)
_MARK = b'"?"'


@dataclass(frozen=True)
class Forged:
    """A request.

    Attributes:
        name: What is forged.
        path: With a query.
        body: None where there is none.
    """

    name: str
    path: str
    body: bytes | None = None
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: dict(_JSON))


def forged(upload: dict) -> Iterator[Forged]:
    """Makes all of them.

    Args:
        upload: A good image, uploaded already.
    """
    good = {"data": [upload, "What color is the star?", 9], "fn_index": 0, "session_hash": "abc"}
    extra = ("trigger_id", "event_data", "event_id", "simple_format", "batched", "oauth_token")
    for key in ("fn_index", "session_hash", "data", *extra):
        for value in (*_NUMBERS, *_WRONG, b"-1", b"99", b"3"):
            yield _with(_JOIN, good, key, value)
    for place in range(3):
        for value in (*_NUMBERS, *_WRONG):
            for path in (_JOIN, _CALL):
                data = list(good["data"])
                data[place] = "?"
                yield _with(path, good | {"data": data}, f"data[{place}]", value)
    for function in range(1, 12):
        for data in ([], [None], [99], [-1], ["x"], [None, "x"], [{"a": 1}, 9], [upload] * 3):
            body = json.dumps(good | {"fn_index": function, "data": data}).encode()
            yield Forged(f"function {function} of {data!r:.30}", _JOIN, body)
    for name, file in _files(upload):
        body = json.dumps(good | {"data": [file, *good["data"][1:]]}).encode()
        yield Forged(f"file with {name}", _JOIN, body)
        yield Forged(f"file with {name}", _CALL, body)
    for path in ("/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/reset/"):
        for value in (*_NUMBERS, *_WRONG):
            event = {"session_hash": "abc", "fn_index": 0, "event_id": "x"}
            for key in event:
                yield _with(path, event, key, value)
            yield Forged(f"{path} of {value!r:.20}", path, value)
    yield from _bodies()
    yield from _addresses(upload)
    yield from _headers()


def is_handled(visitor: Visitor, request: Forged) -> tuple[bool, str]:
    """Returns whether a page says no, or answers; and what it said."""
    try:
        response = visitor.http.request(
            request.method, request.path, content=request.body, headers=request.headers
        )
        said = f"{response.status_code}: {response.text}"
        is_good = response.status_code != 500
        if response.is_success and request.method == "POST" and request.path in (_JOIN, _CALL):
            is_good, said = _follow(visitor, request, response.json()["event_id"])
    except httpx.HTTPError as error:
        return False, repr(error)
    return is_good and "Traceback" not in said, said[:300]


def _follow(visitor: Visitor, request: Forged, event: str) -> tuple[bool, str]:
    """Returns whether a call that was taken has come to an end, and what was said of it."""
    if request.path == _CALL:
        said = visitor.http.get(f"{_CALL}/{event}").text
        return re.search(r"^event: (complete|error)$", said, re.M) is not None, said
    session = json.loads(request.body)["session_hash"]
    said = visitor.http.get("/gradio_api/queue/data", params={"session_hash": session}).text
    return re.search(r'"msg": ?"(process_completed|unexpected_error)"', said) is not None, said


def _with(path: str, body: dict, key: str, value: bytes) -> Forged:
    """Returns a call with a value that need not be JSON."""
    text = json.dumps(body if "[" in key else body | {key: "?"}).encode().replace(_MARK, value)
    return Forged(f"{key} {value!r:.20} to {path}", path, text)


def _files(upload: dict) -> Iterator[tuple[str, object]]:
    elsewhere = "http://127.0.0.1:1/x.png"
    for path in ("/etc/passwd", elsewhere, "file:///etc/passwd", "a\0b", "", "..", "x" * 5_000, 7):
        yield f"path {path!r:.20}", {"path": path, "meta": {"_type": "gradio.FileData"}}
        yield f"path {path!r:.20} and an address", {"path": path, "url": elsewhere}
    for key, value in (
        ("url", elsewhere),
        ("url", 7),
        ("meta", None),
        ("meta", {"_type": "x"}),
        ("size", "x"),
        ("size", 10**30),
        ("orig_name", "../../x"),
        ("mime_type", 7),
        ("is_stream", True),
        ("is_stream", "x"),
    ):
        yield f"{key} {value!r:.20}", upload | {key: value}
    yield "an address alone", {"url": elsewhere}
    yield "a list of itself", [upload, upload]


def _bodies() -> Iterator[Forged]:
    bodies = (
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"\xff\xfe",
        _DEEP,
        b"[" * 60_000,
        b"x" * 90_000,
    )
    for path in (_JOIN, _CALL, "/gradio_api/cancel", "/gradio_api/upload", "/login"):
        for body in bodies:
            yield Forged(f"body {body!r:.20} to {path}", path, body)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for text in (b"", b"username=a", b"username=%ff&password=%00", b"username[]=a&password={}"):
        yield Forged(f"login {text!r}", "/login", text, headers=form)
    yield Forged(
        "login with a file",
        "/login",
        b"--x\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )


def _addresses(upload: dict) -> Iterator[Forged]:
    long = "x" * 9_000
    for query in (
        "upload_id=",
        "upload_id=x",
        "upload_id[]=1",
        f"upload_id={long}",
        "upload_id=%00%ff",
        "",
    ):
        yield Forged(f"upload?{query:.20}", f"/gradio_api/upload?{query}", b"")
        yield Forged(f"progress?{query:.20}", f"/gradio_api/upload_progress?{query}", method="GET")
    for path in (
        "/gradio_api/queue/data",
        "/gradio_api/queue/data?session_hash=",
        "/gradio_api/queue/data?session_hash=nobody",
        f"/gradio_api/queue/data?session_hash={long}",
        "/gradio_api/call/ask/nobody",
        "/gradio_api/call/ask/%00",
        "/gradio_api/call/ask/..%2f..",
        "/gradio_api/call/nothing",
        "/gradio_api/file=%00",
        f"/gradio_api/file={long}",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=http://127.0.0.1:1/x",
        "/gradio_api/heartbeat/",
        "/gradio_api/nothing",
        "/?deep_link=..%2f..%2fetc",
        "/?deep_link=abcdefghijk",
        "/config?deep_link=abcdefghijk&page=nothing",
        "/config?page=..%2f..",
        "/?__theme=nothing&view=api",
        "/static/%00",
        "/static/..%2f..%2fetc%2fpasswd",
        "/assets/nothing.js",
        "/svelte/%ff",
        "/%ff%00",
        "//127.0.0.1:1/",
        "/gradio_api/startup-events",
        "/gradio_api/dev/reload",
        "/gradio_api/info?all_endpoints=x",
        "/docs",
        "/openapi.json",
    ):
        yield Forged(path[:60], path, method="GET")
    file = f"/gradio_api/file={upload['path']}"
    for span in ("5-3", "abc", "-1", "9999999-", "0-0,2-3", "1" * 500, "-", "--1"):
        yield Forged(f"range {span:.10}", file, method="GET", headers={"Range": f"bytes={span}"})


def _headers() -> Iterator[Forged]:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW"):
        for path in ("/", "/login", "/gradio_api/upload", _JOIN):
            yield Forged(f"{method} {path}", path, method=method)
    for name, value in (
        ("Cookie", "access-token=" + "a" * 5_000),
        ("Cookie", "=;;=;\xff"),
        ("Content-Type", "multipart/form-data; boundary=\xff"),
        ("Content-Type", "application/json; charset=utf-7"),
        ("Content-Type", "application/json; charset=nothing"),
        ("Accept-Encoding", "br;q=x, gzip;q=-1, *"),
        ("Accept-Language", "\xff" * 100),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Host", "[::1"),
        ("X-Gradio-Server", "http://[bad"),
        ("X-Forwarded-Proto", "https,https"),
        ("Upgrade", "websocket"),
        ("Expect", "100-continue"),
    ):
        headers = _JSON | {name: value.encode("latin-1")}
        for method, path in (
            ("GET", "/"),
            ("GET", "/logout"),
            ("POST", _CALL),
            ("POST", "/gradio_api/upload"),
        ):
            yield Forged(
                f"{name} {value!r:.20} to {path}",
                path,
                b"{}" if method == "POST" else None,
                method,
                headers,
            )
