"""Requests that the page has to refuse."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from tqdm import tqdm

from tests.load.forged import forged, is_handled
from tests.load.process import PASSWORD, USER, Served
from tests.load.raw import ask, connect, head, read_response
from tests.load.scene import ANSWER, QUESTION, scene
from tests.load.table import Row
from tests.load.visitor import Visitor


def name_rows(page: Served) -> list[Row]:
    """Tries other names than the page's, and web pages that are not it."""
    own = page.address.split("/")[2]
    port = own.rpartition(":")[2]
    hosts = ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.1", "", "[")
    answered = [
        host
        for host in hosts
        for path in ("/", "/login", "/logout", "/gradio_api/upload", "/theme.css")
        if not ask(
            page.address, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        ).startswith(b"HTTP/1.1 400")
    ]
    steered = [
        name
        for name in ("X-Forwarded-Host", "X-Forwarded-Server", "X-Gradio-Server", "Forwarded")
        for path in ("/logout", "/", "/config")
        if b"evil"
        in ask(page.address, head(page.address, f"GET {path}", f"{name}: evil.example") + b"\r\n")
    ]
    origins = ("http://evil.example", "null", "http://127.0.0.1:1", f"https://{own}.evil.example")
    taken = [
        origin
        for origin in origins
        for path in ("/login", "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/cancel")
        if httpx.post(page.address + path[1:], headers={"Origin": origin}).status_code != 403
    ]
    with Visitor(page.address, USER, PASSWORD) as visitor:
        same = visitor.http.get("/config", headers={"Origin": page.address.rstrip("/")})
    return [
        Row("other hosts that were answered", str(len(answered)), not answered),
        Row("redirects and pages steered by a header", str(len(steered)), not steered),
        Row("forms of other web pages that were taken", str(len(taken)), not taken),
        Row("the page itself is let in", str(same.is_success), same.is_success),
    ]


def forged_rows(page: Served) -> list[Row]:
    """Requests that are shaped to make it stumble, of a visitor and of a stranger."""
    bad, number, before = [], 0, len(page.log.read_text().splitlines())
    with Visitor(page.address, USER, PASSWORD) as visitor, Visitor(page.address) as stranger:
        requests = list(forged(visitor.upload(scene())))
        for request in tqdm(requests, desc="forged", leave=False):
            for who in (stranger, visitor):
                is_good, said = is_handled(who, request)
                number += 1
                if not is_good:
                    bad.append(f"{request.name}: {said:.200}")
            if "/logout" in request.path:
                visitor.log_in(USER, PASSWORD)
        still = visitor.ask(visitor.upload(scene()), QUESTION, 9)["full"]["text"] == ANSWER
    for one in bad:
        tqdm.write(f"not handled: {one}", file=sys.stderr)
    log = page.log.read_text().splitlines()[before:]
    tracebacks = sum("Traceback" in line for line in log)
    return [
        Row("forged requests", str(number)),
        Row("answered with HTTP 500, or not at all", str(len(bad)), not bad),
        Row("tracebacks in the log", str(tracebacks), not tracebacks),
        Row("lines in the log", str(len(log)), len(log) < number / 10),
        Row("still right afterwards", str(still), still),
    ]


def login_rows(page: Served, count: int) -> list[Row]:
    """Tries wrong passwords, and right ones meanwhile."""

    def try_one(password: str, source: str = "127.0.0.1") -> tuple[float, int]:
        start = time.monotonic()
        form = f"username={USER}&password={password}"
        kind = "Content-Type: application/x-www-form-urlencoded"
        lines = head(
            page.address, "POST /login", kind, f"Content-Length: {len(form)}", "Connection: close"
        )
        with connect(page.address, source) as client:
            client.settimeout(120)
            client.sendall(lines + b"\r\n" + form.encode())
            status, _ = read_response(client)
        return time.monotonic() - start, status

    row = [try_one(f"wrong{number}") for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        start = time.monotonic()
        at_once = [pool.submit(try_one, f"wrong{number}") for number in range(count)]
        time.sleep(0.3)
        elsewhere, elsewhere_status = try_one(PASSWORD, "127.0.0.2")
        here, here_status = try_one(PASSWORD)
        let_in = sum(each.result()[1] == 200 for each in at_once) + sum(s == 200 for _, s in row)
        seconds = time.monotonic() - start
    each = sum(seconds for seconds, _ in row) / count
    return [
        Row("seconds of a wrong password", f"{each:.1f}", each >= 1),
        Row(f"seconds of {count} wrong ones at once", f"{seconds:.0f}", seconds >= count),
        Row("wrong ones that were let in", str(let_in), not let_in),
        Row("seconds of a right one meanwhile", f"{here:.1f}", here_status == 200),
        Row(
            "seconds of a right one from another address",
            f"{elsewhere:.1f}",
            elsewhere_status == 200 and elsewhere < 1,
        ),
    ]
