"""The web page through HTTP: answers, limits, files, passwords, failures."""

import dataclasses
import io
import os
import socket
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from llava.errors import UserError
from llava.serve.web import __main__ as web
from tests.load.crowd import Case, answered_alone, is_same, make_cases, visit
from tests.load.malformed import attempts, outcome
from tests.load.process import free_port
from tests.load.visitor import Visitor, as_file

ROOT = Path(__file__).parents[2]
STAR = "What color is the star?"


@pytest.fixture
def visitor(page):
    with Visitor(page) as visitor:
        yield visitor


@pytest.mark.parametrize("budget", [1, 9, 36, 144])
def test_it_answers_as_the_model_does(visitor, mini, scene, budget):
    record = visitor.ask(visitor.upload(scene), STAR, budget)
    assert is_same(record, answered_alone(mini, Case(scene, STAR, budget)))
    pruned = record["pruned"]
    assert len(pruned["kept_idx"]) == budget
    if budget < 144:
        assert pruned["caption"] in pruned["candidates"] and len(pruned["scores"]) == 4
        assert (
            pruned["caption"] == pruned["candidates"][pruned["scores"].index(max(pruned["scores"]))]
        )
    assert pruned["seconds"] > 0 and "prefill" in pruned["stages"]


def test_a_program_may_name_what_chooses_the_tokens(visitor, scene):
    picture = visitor.upload(scene)
    own, accm, grid = (
        visitor.ask(picture, STAR, 9, *more) for more in ((), ("accm",), ("uniform",))
    )
    assert own["pruned"]["kept_idx"] == accm["pruned"]["kept_idx"] != grid["pruned"]["kept_idx"]
    assert grid["pruned"]["kept_idx"] == [8 + 16 * place for place in range(9)]
    with pytest.raises(UserError, match="no pruner 'best'"):
        visitor.ask(picture, STAR, 9, "best")


def test_it_says_what_the_model_knows_and_warns_of_other_pictures(visitor, scene):
    assert "accm-mini knows drawn scenes of coloured shapes" in visitor.http.get("/config").text
    assert visitor.ask(visitor.upload(scene), STAR, 9)["warning"] is None
    noise = io.BytesIO()
    Image.effect_noise((60, 40), 90).convert("RGB").save(noise, "PNG")
    said = visitor.ask(visitor.upload(noise.getvalue()), STAR, 9)["warning"]
    assert said.startswith("this picture does not look like a drawn scene; accm-mini knows nothing")


def test_visitors_at_once_get_their_own_answers(page, mini):
    cases = make_cases(12, 144, seed=7)
    outcomes = visit(page, cases, 6, "at once")
    assert [outcome.error for outcome in outcomes] == [None] * 12
    for case, one in zip(cases, outcomes):
        assert is_same(one.record, answered_alone(mini, case)), case.question


def test_what_is_malformed_gets_a_message(visitor, mini, scene):
    upload = visitor.upload(scene)
    for kind, attempt in attempts(50, upload, seed=1):
        is_good, said = outcome(attempt, visitor)
        assert is_good and said, (kind, said)
    assert is_same(visitor.ask(upload, STAR, 9), answered_alone(mini, Case(scene, STAR, 9)))


@pytest.mark.parametrize(
    "question, budget, says",
    [
        ("", 9, "no question yet"),
        (7, 9, "not a text"),
        ("x" * 1001, 9, "1,001 characters"),
        ("look at <image>", 9, "about one image"),
        ("why " * 240, 9, "shorten it"),
        ("a \ud800", 9, "not Unicode"),
        (STAR, 0, "from 1 to 144"),
        (STAR, 145, "from 1 to 144"),
        (STAR, "9", "whole number"),
    ],
)
def test_messages_say_what_is_wrong(visitor, scene, question, budget, says):
    with pytest.raises(UserError, match=says):
        visitor.ask(visitor.upload(scene), question, budget)


def test_no_image(visitor):
    with pytest.raises(UserError, match="no image yet"):
        visitor.ask(None, STAR, 9)


def test_limits_of_bytes_and_pixels(open_page, scene):
    with open_page(max_upload_bytes=30_000, max_pixels=96 * 96 - 1) as address:
        with Visitor(address) as visitor:
            with pytest.raises(UserError, match="413: the file has more than 30,000 bytes"):
                visitor.upload(bytes(30_001))
            with pytest.raises(UserError, match="413: "):
                visitor.upload(bytes(400_000))
            with pytest.raises(
                UserError, match="96 x 96 pixels, and this page takes at most 9,215"
            ):
                visitor.ask(visitor.upload(scene), STAR, 9)


def test_refused_and_broken_uploads_leave_nothing_behind(open_page, scene):
    with open_page(max_upload_bytes=30_000) as address, Visitor(address) as visitor:
        folder = Path(visitor.upload(scene)["path"]).parents[1]
        before = set(folder.rglob("*"))
        for size in (30_001, 100_000, 400_000):
            with pytest.raises(UserError, match="413: "):
                visitor.upload(bytes(size))
        url = httpx.URL(address)
        with socket.create_connection((url.host, url.port)) as leaver:
            leaver.sendall(
                b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n"
                b"Content-Type: multipart/form-data; boundary=cut\r\n\r\n--cut\r\n"
                b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
                + bytes(10_000)
            )
        last = Path(visitor.upload(scene)["path"])  # is answered after the one that left
        assert {path for path in folder.rglob("*") if path.is_file()} <= before | {last}


def test_files_of_the_server_stay_there(visitor, scene, tmp_path):
    upload = Path(visitor.upload(scene)["path"])
    (tmp_path / "secret").write_text("secret")
    link = upload.parent / "link.png"
    link.symlink_to(tmp_path / "secret")
    hidden = [
        tmp_path / "secret",
        link,
        upload / ".." / ".." / ".." / "etc" / "passwd",
        ROOT / "README.md",
        "README.md",
        "/etc/passwd",
        "http://127.0.0.1:1/x",
    ]
    for path in hidden:
        response = visitor.http.get(f"/gradio_api/file={path}")
        assert response.status_code == 403 and "secret" not in response.text, path
        with pytest.raises(UserError, match="not one that was uploaded here"):
            visitor.ask(as_file(str(path)), STAR, 9)
    assert visitor.http.get(f"/gradio_api/file={upload}").content == scene
    link.unlink()


def test_uploads_are_private_and_go_with_the_page(open_page, scene):
    before = os.environ.get("GRADIO_TEMP_DIR")
    with open_page() as address, Visitor(address) as visitor:
        folder = Path(visitor.upload(scene)["path"]).parents[1]
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") == before


def test_a_browser_is_told_to_load_nothing_from_elsewhere(visitor):
    response = visitor.http.get("/")
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_server_reaches_for_nothing(open_page, scene, monkeypatch):
    reached, connect = set(), socket.socket.connect

    def noted(self, address):
        reached.add(address[0])
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    with open_page() as address, Visitor(address) as visitor:
        visitor.ask(visitor.upload(scene), STAR, 9)
    assert reached == {"127.0.0.1"}


def test_with_a_password_nothing_works_without_it(open_page, scene):
    with open_page(user="ada", password="rosebud") as address:
        with Visitor(address, "ada", "rosebud") as friend:
            upload = friend.upload(scene)
            assert friend.ask(upload, STAR, 9)["full"]["text"] == "black"
        with pytest.raises(UserError, match="Incorrect"):
            Visitor(address, "ada", "rosebuds")
        with Visitor(address) as stranger:
            with pytest.raises(UserError, match="401"):
                stranger.upload(scene)
            with pytest.raises(UserError, match="401"):
                stranger.ask(upload, STAR, 9)
            for path in ("config", "gradio_api/info", f"gradio_api/file={upload['path']}"):
                assert stranger.http.get(f"/{path}").status_code == 401
            seen = stranger.http.get("/").text
            assert "auth_required" in seen and "Tokens to keep" not in seen


def test_one_failure_harms_no_other(open_page, held, scene, caplog):
    held.may_go.set()
    with open_page(held) as address, Visitor(address) as visitor:
        upload = visitor.upload(scene)
        with pytest.raises(UserError, match="its log says why") as failure:
            visitor.ask(upload, "Break it?", 9)
        assert "something inside" not in str(failure.value)
        assert "something inside" in caplog.text
        assert visitor.ask(upload, STAR, 9)["full"]["text"] == "black"


def test_all_tokens_are_asked_once(open_page, held, scene):
    held.may_go.set()
    with open_page(held) as address, Visitor(address) as visitor:
        record = visitor.ask(visitor.upload(scene), STAR, 144)
        assert held.answers == 1
        assert record["pruned"] == record["full"] and record["full"]["text"] == "black"


def test_mistakes_leave_no_trace_in_the_log(visitor, scene, capfd, caplog):
    upload = visitor.upload(scene)
    for asked in ((upload, STAR, 999), (upload, "x" * 1001, 9), (None, STAR, 9)):
        with pytest.raises(UserError):
            visitor.ask(*asked)
    with pytest.raises(UserError, match="the image cannot be read as an image"):
        visitor.ask(visitor.upload(b"not an image"), STAR, 9)
    said = capfd.readouterr()
    assert said.out + said.err + caplog.text == ""


def test_who_leaves_in_the_middle_frees_the_place(open_page, held, scene):
    with open_page(held) as address, Visitor(address) as visitor:
        upload = visitor.upload(scene)
        event = visitor.begin(upload, STAR, 9)
        with visitor.http.stream("GET", f"/gradio_api/call/ask/{event}") as response:
            lines = response.iter_lines()
            next(lines)
            assert held.began.wait(20)
        held.may_go.set()
        assert visitor.ask(upload, STAR, 9)["full"]["text"] == "black"
        assert held.answers == 3  # the full one of who left was never begun


def test_a_full_queue_says_so(open_page, held, scene):
    with open_page(held, queue_limit=2) as address, Visitor(address) as visitor:
        upload = visitor.upload(scene)
        visitor.begin(upload, STAR, 9)
        assert held.began.wait(20)
        waiting = [visitor.begin(upload, STAR, 9) for _ in range(2)]
        with pytest.raises(UserError, match="503: Queue is full"):
            visitor.begin(upload, STAR, 9)
        held.may_go.set()
        for event in waiting:
            assert "complete" in visitor.http.get(f"/gradio_api/call/ask/{event}").text


# The command ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--port", "0"], "--port is 0"),
        (["--port", "65536"], "--port is 65536"),
        (["--host", "192.0.2.1"], "cannot listen on port"),
        (["--user", "ada"], "go together"),
        (["--password", "x"], "go together"),
        (["--password-file", "x"], "go together"),
        (["--user", "ada", "--password", "x", "--password-variable", "X"], "go together"),
        (["--user", "ada", "--password-file", "nowhere"], "there is no file nowhere"),
        (["--user", "ada", "--password-variable", "ACCM_UNSET"], "the password is empty"),
        (["--user", "ada", "--password", ""], "the password is empty"),
        (["--user", " ada", "--password", "x"], "--user is empty, or begins"),
        (["--public-url", "demo.example.org"], "--public-url is 'demo.example.org'"),
        (["--public-url", "https://demo.example.org:x"], "--public-url is"),
        (["--upload-age", "0"], "--upload-age is 0"),
        (["--max-all-uploads-bytes", "5"], "--max-all-uploads-bytes is 5"),
        (["--queue-limit", "0"], "--queue-limit is 0"),
        (["--max-pixels", "-1"], "--max-pixels is -1"),
        (["--model-path", "nowhere"], "nowhere"),
    ],
)
def test_bad_flags(capsys, flags, says):
    assert web.main(["--port", str(free_port()), *flags]) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error and error.count("\n") == 1


def test_a_port_in_use(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert web.main(["--port", str(port)]) == 2
    assert f"cannot listen on port {port} of 127.0.0.1" in capsys.readouterr().err


def test_without_gradio(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "llava.serve.web.server")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert web.main([]) == 2
    assert "the web page needs gradio, which is not installed: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting, says",
    [
        ({"visual_token_num": 145}, "visual_token_num is 145"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_nothing_could_be_answered_with(open_page, setting, says):
    with pytest.raises(UserError, match=says):
        with open_page(**setting):
            pass


def test_a_proxy_of_the_environment_is_not_asked(open_page, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    with open_page() as address, Visitor(address) as visitor:
        assert visitor.http.get("/").is_success


def test_defaults_let_nobody_else_in():
    arguments = dataclasses.asdict(web.WebArguments())
    assert arguments["host"] == "127.0.0.1" and arguments["model_path"] == "checkpoints/accm-mini"


def test_a_server_that_went_away(page):
    with Visitor(f"http://127.0.0.1:{free_port()}/") as visitor:
        with pytest.raises(httpx.HTTPError):
            visitor.ask(None, STAR, 9)
