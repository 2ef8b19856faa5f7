"""The web page under attack: what is cut, refused, slowed down, removed and told."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import httpx
import pytest

from llava.errors import UserError
from llava.serve.web.answering import STOPPED
from llava.serve.web.arguments import Patience
from llava.serve.web.uploads import page_folder
from tests.load.forged import forged, is_handled
from tests.load.odd_uploads import odd_uploads
from tests.load.raw import (
    ask,
    connect,
    file_part,
    head,
    read_response,
    seconds_until_cut,
    upload_head,
)
from tests.load.visitor import Visitor

STAR = "What color is the star?"
SHORT = Patience(
    head_seconds=2,
    silent_seconds=2,
    unread_seconds=2,
    refused_seconds=2,
    wrong_password_seconds=0.01,
    connections=30,
)


@pytest.fixture(scope="module")
def short(open_page):
    with open_page(patience=SHORT, user="ada", password="rosebud") as address:
        yield address


@pytest.fixture
def friend(short):
    with Visitor(short, "ada", "rosebud") as visitor:
        yield visitor


def cookie(visitor):
    return "Cookie: " + "; ".join(f"{name}={value}" for name, value in visitor.http.cookies.items())


# Connections ------------------------------------------------------------------------------------


def test_who_keeps_the_page_waiting_is_cut(short, friend, scene):
    requests = [
        b"",
        b"GET / HT",
        head(short, "GET /"),
        head(short, "POST /login", "Content-Length: 100") + b"\r\nusername=",
        head(short, "GET /", "Content-Length: 100") + b"\r\nx",
        upload_head(short, 1_000_000) + bytes(500_000),
        upload_head(short, 1_000_000, cookie(friend)) + bytes(500_000),
        upload_head(short, 900_000_000, cookie(friend)) + bytes(500_000),
    ]
    clients = [connect(short) for _ in requests]
    for client, request in zip(clients, requests):
        client.sendall(request)
    assert friend.ask(friend.upload(scene), STAR, 9)["full"]["text"] == "black"
    assert None not in seconds_until_cut(clients, 60)


def test_a_slow_visitor_is_not_cut(short, friend, scene):
    form = file_part(scene) + b"\r\n------cut--\r\n"
    request = upload_head(short, len(form), cookie(friend)).removesuffix(file_part(b"")) + form
    with connect(short) as client:
        for piece in range(0, len(request), len(request) // 12):
            client.sendall(request[piece : piece + len(request) // 12])
            time.sleep(0.25)
        assert read_response(client)[0] == 200


def test_more_connections_than_there_is_room_for(short, scene):
    clients = [connect(short) for _ in range(3 * SHORT.connections)]
    with Visitor(short, "ada", "rosebud") as visitor:
        assert visitor.ask(visitor.upload(scene), STAR, 9)["full"]["text"] == "black"
    for client in clients:
        client.close()


# Uploads ----------------------------------------------------------------------------------------


def test_odd_uploads_leave_nothing_and_all_have_a_quota_and_an_age(open_page, scene):
    limits = {"max_upload_bytes": 20_000, "max_all_uploads_bytes": 50_000, "upload_age": 4}
    with open_page(**limits, patience=SHORT) as address, Visitor(address) as visitor:
        first = Path(visitor.upload(scene)["path"])
        folder = first.parents[1]
        drawn = {path for path in folder.rglob("*") if path.is_file()} - {first}
        for kind, request in islice(odd_uploads(address, scene).items(), 0, None, 3):
            assert not ask(address, request).startswith(b"HTTP/1.1 5"), kind
        for _ in range(4):
            visitor.upload(bytes(20_000))
        uploads = list(first.parent.iterdir())
        assert first not in uploads
        assert sum(path.stat().st_size for path in uploads) <= 50_000
        for _ in range(200):
            if {path for path in folder.rglob("*") if path.is_file()} == drawn:
                break
            time.sleep(0.1)
        assert {path for path in folder.rglob("*") if path.is_file()} == drawn
        with pytest.raises(UserError, match="upload it .again"):
            visitor.ask({"path": str(uploads[0])}, STAR, 9)


LEFT = """
import sys, tempfile, time
from llava.serve.web.uploads import page_folder
tempfile.tempdir = sys.argv[1]
with page_folder() as folder:
    (folder / "upload").touch()
    print(folder, flush=True)
    time.sleep(300)
"""


def test_what_a_killed_page_has_left_is_removed(tmp_path, monkeypatch):
    """And nothing of one that lives."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", LEFT, str(tmp_path)]
    pages = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = [Path(page.stdout.readline().strip()) for page in pages]
    try:
        pages[0].send_signal(signal.SIGKILL)
        pages[0].wait()
        assert all((folder / "upload").exists() for folder in folders)
        (tmp_path / "accm-web-other").mkdir()
        with page_folder() as own:
            assert not folders[0].parent.exists()
            assert (folders[1] / "upload").exists() and (tmp_path / "accm-web-other").exists()
        assert not own.parent.exists()
    finally:
        pages[1].kill()
        pages[1].wait()


# Requests ---------------------------------------------------------------------------------------


def test_forged_requests_get_a_message(short, friend, scene, caplog):
    """A part of them; the command tests.load.attack tries all, and strangers' too."""
    requests = list(forged(friend.upload(scene)))
    assert len(requests) > 700
    for request in requests[::9]:
        if "/logout" not in request.path:
            is_good, said = is_handled(friend, request)
            assert is_good, (request.name, said)
    assert "Traceback" not in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("number", [b"99", b"-1", b"1e400", b"NaN", b"true", b'"0"', b"9" * 5000])
def test_functions_that_are_none(friend, number):
    body = b'{"data": [], "session_hash": "abc", "fn_index": ' + number + b"}"
    response = friend.http.post("/gradio_api/queue/join", content=body)
    assert response.status_code == 400 and response.json()["detail"]


def test_a_call_is_made_of_nothing_but_what_the_page_reads(friend, scene):
    upload = friend.upload(scene)
    odd = upload | {"url": "http://127.0.0.1:1/x", "is_stream": True, "size": "x", "meta": 7}
    assert friend.ask(odd, STAR, 9)["full"]["text"] == "black"


# Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[::"])
def test_other_hosts_are_not_answered(short, host):
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    assert ask(short, request).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST:7860", "[::1]"])
def test_its_own_hosts_are(short, host):
    request = f"GET /theme.css HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    assert ask(short, request).startswith(b"HTTP/1.1 200")


def test_other_web_pages_are_refused(short, friend):
    own = short.rstrip("/")
    for origin in ("http://evil.example", "null", own + "0", own.replace("http", "ftp")):
        for path in ("/login", "/gradio_api/upload", "/gradio_api/queue/join"):
            response = friend.http.post(path, headers={"Origin": origin})
            assert response.status_code == 403, (origin, path)
    there = {"Sec-Fetch-Site": "cross-site"}
    assert friend.http.get("/logout", headers=there).status_code == 403
    assert friend.http.get("/config", headers={"Origin": own}).is_success


def test_no_header_says_where_the_page_is(short):
    said = {"X-Forwarded-Host": "evil.example", "X-Gradio-Server": "http://evil.example"}
    for path in ("logout", "", "config"):
        response = httpx.get(short + path, headers=said)
        assert "evil" not in response.text + response.headers.get("location", "")


def test_behind_a_proxy(open_page):
    url = "https://demo.example.org/accm"
    with open_page(public_url=url) as address, httpx.Client(base_url=address) as client:
        there = {"Host": "demo.example.org", "Origin": "https://demo.example.org"}
        assert client.get("/config", headers=there).json()["root"] == url
        assert client.get("/logout", headers=there).headers["location"] == url
        assert client.get("/", headers={"Host": "example.org"}).status_code == 400
        assert client.get("/", headers={"Origin": "https://example.org"}).status_code == 403


# The end ----------------------------------------------------------------------------------------


def test_visitors_are_told_of_the_end(open_page, held, scene):
    """Who is being answered, who waits in the queue, as a program and as a browser."""

    def follow(visitor, source):
        return visitor.http.get(source).text

    with ThreadPoolExecutor(3) as pool:
        with open_page(held) as address:
            visitors = [Visitor(address) for _ in range(3)]
            upload = visitors[0].upload(scene)
            events = [each.begin(upload, STAR, 9) for each in visitors[:2]]
            visitors[2].join({"data": [upload, STAR, 9], "fn_index": 0, "session_hash": "abc"})
            sources = [f"/gradio_api/call/ask/{event}" for event in events]
            sources.append("/gradio_api/queue/data?session_hash=abc")
            told = [pool.submit(follow, *each) for each in zip(visitors, sources)]
            assert held.began.wait(20)
            time.sleep(0.5)
        said = [each.result(20) for each in told]
    assert all(STOPPED in text for text in said), said
    assert json.loads(said[2].split("data: ")[-1]) == {"msg": "close_stream"}
