"""The guard before the network: what it lets through, and what it says of the rest."""

import io
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from llava.errors import UserError
from llava.eval import run_llava, trace
from llava.guard import USUAL, Guard, is_public
from llava.image_url import fetch, is_url, open_image
from llava.mm_utils import load_image
from llava.serve import cli
from llava.serve.accm import Accm

HERE = "127.0.0.1"
WAY_OUT = "save the picture with a browser, and give the file"


def png(width=30, height=20):
    file = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(file, "PNG")
    return file.getvalue()


PICTURE = png()


@pytest.fixture(autouse=True)
def picture(web):
    web.files["/p.png"] = PICTURE


@pytest.fixture
def guard():
    """A guard that takes this machine for a public one, and knows one name that is not."""
    names = {"inner.test": ["10.0.0.7"], "both.test": [HERE, "192.168.1.1"]}
    return Guard(
        look_up=lambda host, port: names.get(host) or [HERE if "test" in host else host],
        allows=lambda address: address == HERE or is_public(address),
        seconds=10,
    )


def url_of(web, path="/p.png", host="pictures.test"):
    return web.url.replace(HERE, host) + path


def refused(url, guard, *says):
    """Checks that an address is refused in one line with the way out."""
    with pytest.raises(UserError) as caught:
        open_image(url, guard=guard)
    message = str(caught.value)
    assert message.isprintable() and all(each in message for each in says), message
    return message


def test_a_picture_comes_as_its_file_would(web, guard, tmp_path):
    (tmp_path / "p.png").write_bytes(PICTURE)
    there = open_image(url_of(web), guard=guard)
    assert np.array_equal(there, open_image(tmp_path / "p.png"))
    assert np.array_equal(there, open_image(PICTURE))


def test_the_rotation_of_a_camera_is_heeded_where_it_is_wanted(web, guard):
    file, note = io.BytesIO(), Image.Exif()
    note[0x0112] = 6
    Image.new("RGB", (30, 20)).save(file, "PNG", exif=note)
    web.files["/turned.png"] = file.getvalue()
    url = url_of(web, "/turned.png")
    assert open_image(url, guard=guard).size == (30, 20)
    assert open_image(url, upright=True, guard=guard).size == (20, 30)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/p.png",
        "http://localhost:{port}/p.png",
        "http://2130706433:{port}/p.png",
        "http://0x7f.1:{port}/p.png",
        "http://[::1]:{port}/p.png",
        "http://[::ffff:127.0.0.1]:{port}/p.png",
        "http://example.com@127.0.0.1:{port}/p.png",
        "https://127.0.0.1:{port}/p.png",
    ],
)
def test_this_machine_is_not_asked_whatever_it_is_called(web, url):
    port = web.url.rpartition(":")[2]
    refused(url.format(port=port), USUAL, "is no address of the public internet", WAY_OUT)
    assert web.requests == []


def test_every_address_of_a_name_has_to_be_public(web, guard):
    refused(
        url_of(web, host="both.test"),
        guard,
        "both.test (192.168.1.1 here) is no address of",
        WAY_OUT,
    )
    assert web.requests == []


def test_a_name_is_looked_up_once_and_what_was_checked_is_asked(web, guard):
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return [HERE if len(asked) == 1 else "10.0.0.7"]

    assert fetch(url_of(web), replace(guard, look_up=rebinding)) == PICTURE
    assert asked == ["pictures.test"]


def test_the_environment_has_no_say(web, guard, monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(url_of(web), guard) == PICTURE


def test_an_address_that_is_silent_is_passed_over(web, guard):
    # Nobody listens at 127.0.0.2 on that port.
    both = replace(
        guard, look_up=lambda host, port: ["127.0.0.2", HERE], allows=lambda address: True
    )
    assert fetch(url_of(web), both) == PICTURE


def test_redirects_are_followed(web, guard):
    web.moved |= {"/a": url_of(web, "/b?x=1", host="other.test"), "/b": "p.png"}
    assert fetch(url_of(web, "/a"), guard) == PICTURE


@pytest.mark.parametrize(
    "to, says",
    [
        ("http://inner.test/p.png", "inner.test (10.0.0.7 here) is no address of"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is no address of"),
        ("//inner.test/p.png", "inner.test (10.0.0.7 here) is no address of"),
        ("file:///etc/passwd", "http and https only"),
        ("ftp://pictures.test/p.png", "http and https only"),
        ("http://[half", "could not be fetched"),
        ("", "leads to more than 3 other addresses"),
        ("/a", "leads to more than 3 other addresses"),
    ],
)
def test_a_redirect_is_checked_like_the_first_address(web, guard, to, says):
    web.moved["/a"] = to
    refused(url_of(web, "/a"), guard, says)
    assert {path for _, path, _ in web.requests} == {"/a"}


@pytest.mark.parametrize(
    "url, says",
    [
        ("ftp://pictures.test/p.png", "begins with 'ftp'"),
        ("file:///etc/passwd", "begins with 'file'"),
        ("http:///p.png", "names no machine"),
        ("http://pictures.test:99999/p.png", "no address of a picture"),
        ("http://pictures.test:0/p.png", "names no machine"),
        ("http://[::1/p.png", "no address of a picture"),
        ("https://pictures.test:x/p.png", "no address of a picture"),
        ("http://a\nb.test:1/\x1b[31m", "could not be fetched"),
        ("http://" + "a" * 300 + ".test:1/", "could not be fetched"),
        ("http://a..b:1/", "could not be fetched"),
    ],
)
def test_what_is_no_address_says_so(guard, url, says):
    refused(url, guard, says)


@pytest.mark.parametrize("host", ["a..b", "\N{SNOWMAN}" * 80, "a" * 300, "a b"])
def test_a_name_that_cannot_be_one(host):
    refused(f"http://{host}/p.png", USUAL, "could not be fetched", WAY_OUT)


def test_a_name_that_is_not_known(guard):
    def unknown(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    says = "its name is not known here, or there is no network: Name or service not known"
    refused("https://nowhere.test/p.png", replace(guard, look_up=unknown), says, WAY_OUT)
    nobody = replace(guard, look_up=lambda host, port: [])
    refused("https://nowhere.test/p.png", nobody, "its name has no address", WAY_OUT)


def test_a_machine_that_does_not_listen(guard):
    with socket.socket() as free:
        free.bind((HERE, 0))
        port = free.getsockname()[1]
    refused(f"http://pictures.test:{port}/p.png", guard, "Connection refused", WAY_OUT)


def test_encryption_with_one_that_has_none(web, guard):
    refused(url_of(web).replace("http:", "https:"), guard, "could not be fetched", WAY_OUT)


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def encrypted(tmp_path):
    """The port of a server that answers encrypted, as pictures.test, and its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not here")
    files = [str(tmp_path / name) for name in ("certificate.pem", "key.pem")]
    make = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2"
    make += " -subj /CN=pictures.test -addext subjectAltName=DNS:pictures.test"
    command = [*make.split(), "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)

    def answer():
        with suppress(OSError):  # one side leaves, or the server is closed
            while True:
                line, _ = server.accept()
                with suppress(OSError), context.wrap_socket(line, server_side=True) as inner:
                    inner.recv(4096)
                    inner.sendall(HEAD + b"\r\n" + PICTURE)

    with socket.create_server((HERE, 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1], files[0]


def test_an_encrypted_address(encrypted, guard, monkeypatch):
    port, certificate = encrypted
    url = f"https://pictures.test:{port}/p.png"
    refused(url, guard, "its certificate is not valid: self", WAY_OUT)
    monkeypatch.setenv("SSL_CERT_FILE", certificate)  # OpenSSL's: who is trusted
    assert fetch(url, guard) == PICTURE
    refused(url.replace("pictures", "other"), guard, "its certificate is not valid: Hostname")


def endless(asked):
    """A head without an end, each byte in time."""
    yield HEAD
    while not asked.closing.wait(0.02):
        yield b"X: y\r\n"[:1]


def dripping(asked):
    """A picture byte by byte."""
    yield HEAD + b"Content-Length: 100000\r\n\r\n"
    while not asked.closing.wait(0.02):
        yield b"x"


def chunks(asked):
    """More than it may be, and not said before."""
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for _ in range(300):
        yield b"2710\r\n" + b"x" * 10000 + b"\r\n"


SENT = {
    "404": (b"HTTP/1.1 404 No\r\n\r\n", "it answered 404: it is not there (any more)"),
    "403": (b"HTTP/1.1 403 No\r\n\r\n", "it answered 403"),
    "500": (b"HTTP/1.1 500 No\r\n\r\n", "it answered 500"),
    "206": (b"HTTP/1.1 206 Part\r\n\r\n", "it answered 206"),
    "a page": (HEAD + b"Content-Type: text/html; x=y\r\n\r\n<html>", "gives a web page in place"),
    "a text": (HEAD + b"Content-Type: image/png\r\n\r\nhello", "cannot be read as an image"),
    "nothing": (HEAD + b"Content-Length: 0\r\n\r\n", "is empty (0 bytes)"),
    "cut": (HEAD + b"Content-Length: 9999\r\n\r\n" + PICTURE[:50], "the line was cut"),
    "half a picture": (HEAD + b"\r\n" + PICTURE[:300], "damaged or cut short"),
    "packed": (HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b", "comes packed (gzip)"),
    "too large": (HEAD + b"Content-Length: 2000001\r\n\r\n", "has more than 2,000,000 bytes"),
    "no length": (HEAD + b"\r\n" + bytes(2_000_001), "has more than 2,000,000 bytes"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "could not be fetched"),
    "silence": (b"", "could not be fetched"),
    "a long head": (HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n", "could not be fetched"),
    "an odd answer": (b"HTTP/1.1 \x1b[31m\r\n\r\n", "could not be fetched"),
}


@pytest.mark.parametrize("sent, says", SENT.values(), ids=SENT)
def test_what_is_no_picture(web, guard, sent, says):
    web.behaviours["/p.png"] = lambda asked: [sent]
    url = url_of(web)
    assert url in refused(url, replace(guard, most_bytes=2_000_000), says)


def test_more_than_may_be_is_not_read_to_its_end(web, guard):
    web.behaviours["/p.png"] = chunks
    refused(url_of(web), replace(guard, most_bytes=10_000), "has more than 10,000 bytes", WAY_OUT)


def test_just_as_much_as_may_be(web, guard):
    assert fetch(url_of(web), replace(guard, most_bytes=len(PICTURE))) == PICTURE
    refused(url_of(web), replace(guard, most_bytes=len(PICTURE) - 1), "has more than")


def test_pixels_are_limited_as_a_files_are(web, guard):
    web.files["/p.png"] = png(9_460, 1)
    refused(url_of(web), guard, url_of(web), "Scale it down to at most 9459 pixels a side")


@pytest.mark.parametrize("slow", [endless, dripping], ids=["head", "body"])
def test_slowness_has_an_end(web, guard, slow):
    web.behaviours["/p.png"] = slow
    before = threading.active_count()
    refused(url_of(web), replace(guard, seconds=0.5), "not there in 0.5 seconds", WAY_OUT)
    for _ in range(500):  # the line is cut, and who was reading ends
        if threading.active_count() <= before:
            break
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_name_that_is_looked_up_for_ever(guard):
    done = threading.Event()
    waiting = replace(guard, look_up=lambda host, port: [done.wait(20)], seconds=0.2)
    refused("http://slow.test/p.png", waiting, "not there in 0.2 seconds", WAY_OUT)
    done.set()


def test_the_request_is_an_ordinary_one(guard):
    """Host, path and query as the address has them, whatever is in them; no login."""
    with socket.create_server((HERE, 0)) as server:
        port, heads = server.getsockname()[1], []

        def answer():
            line, _ = server.accept()
            with line:
                heads.append(line.recv(4096).decode())
                line.sendall(HEAD + b"\r\n" + PICTURE)

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://me:secret@Pictures.test:{port}/a b/\N{SNOWMAN}.png?x=1&y=%20é#part"
        assert fetch(url, guard) == PICTURE
    head = heads[0].split("\r\n")
    assert head[0] == "GET /a%20b/%E2%98%83.png?x=1&y=%20%C3%A9 HTTP/1.1"
    assert f"Host: pictures.test:{port}" in head and "Accept-Encoding: identity" in head
    assert "secret" not in heads[0] and "Authorization" not in heads[0]


@pytest.mark.parametrize(
    "source, expected",
    [
        ("https://a.test/p.png", True),
        ("HTTP://a.test", True),
        ("ftp://a", True),
        ("p.png", False),
        ("a/http://b", False),
        ("C:\\p.png", False),
        ("http:/p.png", False),
        (b"http://a.test", False),
        (7, False),
    ],
)
def test_what_is_an_address(source, expected):
    assert is_url(source) is expected


# Every door for images goes through the guard ----------------------------------------------------

PRIVATE = "127.0.0.1 is no address of the public internet"


def test_python(web, model):
    for image in (f"{web.url}/p.png", [f"{web.url}/p.png"]):
        with pytest.raises(UserError, match=PRIVATE):
            Accm(model).answer(image, "What is it?")
    assert web.requests == []


def test_the_chat_and_single_questions(web, capsys):
    url = f"{web.url}/p.png"
    for main, flags in (
        (cli.main, ["--image-file", url]),
        (run_llava.main, ["--model-path", "nowhere", "--image-file", url, "--query", "What?"]),
        (trace.main, ["--model-path", "nowhere", "--image", url, "--question", "What?"]),
    ):
        assert main(flags) == 2
        _, error = capsys.readouterr()
        assert PRIVATE in error and error.count("\n") == 1
    assert web.requests == []


def test_what_reads_files_asks_nobody(web):
    with pytest.raises(UserError, match="there is no image http"):
        load_image(f"{web.url}/p.png")
    assert web.requests == []


def test_a_file_of_requests_stays_off_the_network(web, tmp_path, tiny_flags, capsys):
    line = {"id": 1, "image": f"{web.url}/p.png", "question": "What?"}
    (tmp_path / "in.jsonl").write_text(json.dumps(line))
    output = tmp_path / "out.jsonl"
    flags = ["--requests", str(tmp_path / "in.jsonl"), "--output", str(output)]
    assert trace.main([*tiny_flags, *flags]) == 1
    assert "read without the network" in json.loads(output.read_text())["error"]
    assert web.requests == []
