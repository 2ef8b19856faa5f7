"""What the server refuses, and whom it does not wait for."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from llava.errors import UserError
from llava.guard import Guard
from llava.model.sample import Sample
from llava.serve.openai.arguments import ServeArguments, check_flags, read_key
from llava.serve.openai.images import ImageReader
from llava.serve.web.arguments import Patience
from tests.helpers.chat_client import ChatClient, body, data_url, message, png
from tests.helpers.waiting import wait_until
from tests.load.bad_images import bad_images
from tests.load.raw import connect, head, read_response, seconds_until_cut

STAR = "What color is the star?"
SHORT = Patience(
    head_seconds=1, silent_seconds=1, unread_seconds=2, refused_seconds=1, connections=40
)


def metric(client, name):
    lines = client.http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


# Who may ask -------------------------------------------------------------------------------------


def test_the_key_guards_all_but_health(open_server, scene):
    with open_server(key="rosebud") as client:
        assert client.text(STAR, scene) == "black"
        for header in ({}, {"Authorization": "Bearer rosebu"}, {"Authorization": "rosebud"}):
            for path in ("/v1/models", "/metrics", "/v1/chat/completions", "/nowhere"):
                response = httpx.get(client.address.rstrip("/") + path, headers=header)
                error = response.json()["error"]
                assert (response.status_code, error["code"]) == (401, "invalid_api_key")
        assert httpx.get(client.address + "health").json() == {"status": "ok"}
        other = client.http.get("/v1/models", headers={"Host": "accm.example"})
        assert other.json()["data"][0]["id"] == "accm-mini"


def test_without_a_key_a_web_page_with_another_name_is_refused(server):
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        assert server.http.get("/v1/models", headers={"Host": host}).status_code in (400, 403)
    assert server.http.get("/v1/models", headers={"Host": "localhost:1"}).status_code == 200


def test_other_places_methods_and_kinds(server, scene):
    for method, path, status in (
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/completions", 404),
    ):
        response = server.http.request(method, path)
        assert response.status_code == status and response.json()["error"]["message"]
    text = json.dumps(body(STAR, scene))
    response = server.http.post(server.PATH, content=text, headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


# Malformed requests ------------------------------------------------------------------------------

WRONG_FIELDS = {
    "model": [7, "", "gpt-4o", ["accm-mini"], None, "\ud800", "x" * 9999],
    "messages": [7, [], {}, "text", [7], [{}], [[]], None, [{"role": "user"}]],
    "max_tokens": [0, -1, 1.5, "9", True, 10**30, 513, [], 1e300],
    "max_completion_tokens": [0, "9", 17],
    "temperature": [-1, "0", True, [], 1e-9, 5000, 1e308],
    "top_p": [0, 2, -1, "1", True, 0.5],
    "seed": [-1, 1.5, "1", 2**70, True],
    "stop": [7, [7], "", [""], ["a"] * 5, "x" * 300, {}],
    "stream": [1, "yes", []],
    "stream_options": [[], {"include_usage": True}, {"more": 1}, "x"],
    "logprobs": [1, True, "yes"],
    "top_logprobs": [3, -1, 99, "2"],
    "n": [2, 0, "1", True, 1.5],
    "tools": [[{"type": "function"}], {}],
    "tool_choice": ["required", {}],
    "response_format": [{"type": "json_object"}, "text", {}],
    "logit_bias": [{"1": 1}],
    "presence_penalty": [0.5, "0"],
    "frequency_penalty": [-1],
    "functions": [[{}]],
    "audio": [{}],
    "modalities": [["audio"]],
    "reasoning_effort": ["low"],
    "service_tier": ["flex"],
    "store": [True, 1],
    "prompt": ["x"],
    "temprature": [0],
    "accm": [
        *(7, [], {"visual_token_num": "9"}, {"visual_token_num": -1}, {"visual_token_num": 577}),
        *({"visual_token_num": share} for share in ("10/9", "0%", "many", ["1/9"], 1.5)),
        *({"visual_token_num": True}, {"pruner": "accmm"}, {"pruner": 7}, {"more": 1}),
        *({"pruner_options": []}, {"pruner_options": {"x": 1}}, {"compensation": "merge"}),
        *({"explain": 1}, {"seed": -1}, {"text_token_num": 37}, {"compensation": []}),
        {"pruner": "vispruner", "pruner_options": {"x": {"y": []}}},
    ],
}


def wrong_messages(scene):
    url = data_url(scene)
    image = {"type": "image_url", "image_url": {"url": url}}
    text = {"type": "text", "text": STAR}
    yield [message(STAR)]
    yield [message("", url)]
    yield [message(" \n", url)]
    yield [message("<image>", url)]
    yield [message("x" * 20_001, url)]
    yield [message("why " * 4_900, url)]
    yield [message(STAR, url), {"role": "assistant", "content": "black"}]
    yield [message(STAR, url), message(STAR)]
    yield [{"role": "assistant", "content": "black"}, message(STAR, url)]
    yield [message(STAR), {"role": "assistant", "content": "black"}, message(STAR, url)]
    yield [message(STAR, url), {"role": "assistant", "content": ""}, message(STAR)]
    yield [message(STAR, url), {"role": "assistant", "content": None}, message(STAR)]
    yield [{"role": "system", "content": "You are a pirate."}, message(STAR, url)]
    yield [message(STAR, url) | {"role": role} for role in ("tool",)]
    yield [message(STAR, url) | {"role": 7}]
    yield [message(STAR, url) | {"tool_calls": []}]
    yield [message(STAR, url)] * 201
    for parts in (
        [image, image, text],
        [image, {"type": "text"}],
        [image, {"type": "text", "text": 7}],
        [image, {"type": "input_audio"}],
        [image, {}],
        [image, "text"],
        [image, text, {"type": "image_url", "image_url": url}],
        [{"type": "image_url", "image_url": {}}, text],
        [{"type": "image_url", "image_url": {"url": 7}}, text],
        [{"type": "image_url", "image_url": {"url": url, "detail": "most"}}, text],
        [{"type": "image_url", "image_url": {"url": url, "size": 7}}, text],
    ):
        yield [{"role": "user", "content": parts}]


def wrong_images(generator):
    for make in bad_images().values():
        image = make(generator)
        if len(image) < 1 << 20:  # larger ones have a test of their own
            yield data_url(image)
    yield from ("", "x", "data:", "data:image/png;base64", "data:image/png;base64,", "data:,")
    yield from ("data:image/png;base64,!!!", "data:image/png;base64,aaa", "data:;base64,YQ==")
    yield from ("data:image/png,%ff%00", "DATA:image/png;base64,ÿ", "data:image/png;base64,\0")
    yield from ("/etc/passwd", "file:///etc/passwd", "ftp://a/b", "javascript:alert(1)", "images/x")


WRONG_BODIES = [
    b"",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 10_000,
    b"[]",
    b"7",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"model": NaN}',
    b'{"seed": 1e999}',
    b'{"seed": ' + b"9" * 5000 + b"}",
    b'{"model": "\\ud800"}',
    b"\0" * 1000,
]


def malformed(scene):
    """Requests that are all wrong, as bytes."""
    yield from WRONG_BODIES
    good = body(STAR, scene)
    for name, values in WRONG_FIELDS.items():
        for value in values:
            if not (value is None and name not in ("model", "messages")):
                yield json.dumps(good | {name: value}).encode()
    for messages in wrong_messages(scene):
        yield json.dumps(good | {"messages": messages}).encode()
    for url in wrong_images(np.random.default_rng(0)):
        yield json.dumps(good | {"messages": [message(STAR, url)]}).encode()
    text = json.dumps(good).encode()
    generator = np.random.default_rng(1)
    for cut in generator.integers(1, len(text), 100).tolist():
        yield text[:cut]


# Kinds of images that are no fault, though they are uncommon.
FINE = ("of mode", "an animated", "one pixel", "with wrong bytes", "truncated", "a text chunk")


def test_malformed_requests_are_refused_and_harm_nobody(server, scene):
    fine = sum(any(part in kind for part in FINE) for kind in bad_images())
    answered, count = 0, 0
    headers = {"Content-Type": "application/json"}
    for request in malformed(scene):
        response = server.http.post(server.PATH, content=request, headers=headers)
        count += 1
        if response.status_code == 200:
            answered += 1
            continue
        assert 400 <= response.status_code < 500, (request[:200], response.text)
        error = response.json()["error"]
        assert error["message"].isprintable() and len(error["message"]) < 1000
    assert count > 300 and answered <= fine
    assert metric(server, 'accm_requests_total{status="5') == 0
    assert metric(server, "accm_requests_in_flight") == 0
    assert server.text(STAR, scene) == "black"


def test_what_a_refusal_says(server, scene):
    def says(**fields):
        error = server.refused(body(STAR, scene, **fields))
        return error["param"], error["message"]

    assert says(n=3) == ("n", "n 3 is not supported here, only 1 is: leave n out")
    assert says(tools=[{}])[0] == "tools"
    assert says(max_token=3) == (
        "max_token",
        "there is no field 'max_token' (did you mean max_tokens?)",
    )
    assert "vllm" in says(logprobs=True)[1]
    assert "there is no pruner 'x'" in says(accm={"pruner": "x"})[1]
    two = [message(STAR, data_url(scene)), {"role": "assistant", "content": "black"}]
    error = server.refused({"model": "accm-mini", "messages": [*two, two[0]]})
    assert error["param"] == "messages[2]" and "2 images" in error["message"]


def test_sizes(open_server, scene):
    limits = {"max_request_bytes": 50_000, "max_image_bytes": 20_000, "max_pixels": 9_000}
    with open_server(**limits) as client:
        assert "9,000" in client.refused(body(STAR, scene))["message"]
        assert "20,000" in client.refused(body(STAR, bytes(21_000)))["message"]
        large = client.post(body(STAR, bytes(60_000)))
        assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")


NOT_READ = "which is no URL of the kinds that are read (data, http, https)"
IMAGE_FORMS = {
    "": NOT_READ,
    "scene.png": NOT_READ,
    "iVBORw0KGgo=": NOT_READ,
    "file:///etc/passwd": NOT_READ,
    "blob:https://a.test/1": NOT_READ,
    "data:": "which is no whole data: URL",
    "data:" + ";" * 300 + ",": "which is no whole data: URL",
    "data:image/png;base64,": "the image is empty (0 bytes)",
    "data:image/png;base64,_-8=": "the base64 of the image is damaged",
    "data:image/png;base64,aGVsbG8=": "save it as one of them",
    "http://pictures.test/a.png": "this server fetches no images by their URL",
}


def test_what_a_refused_image_says(server, scene):
    """The field, and a way out for a program that sends requests."""
    field = "messages[0].content[0].image_url.url"
    forms = IMAGE_FORMS | {data_url(scene[:300]): "send the whole file"}
    for url, says in forms.items():
        value = {"model": "accm-mini", "messages": [message(STAR, url)]}
        error = server.refused(value)
        assert (error["param"], error["code"]) == (field, "invalid_image")
        assert says in error["message"] and "browser" not in error["message"]
        if not says.startswith(("save", "send", "the base64")):
            assert "send the file itself, as data:image/png;base64," in error["message"]


def test_a_waiting_request_keeps_its_image_as_small_as_the_model_sees_it(
    open_server, held_engine, mini
):
    """And the answer is that of the whole image, whatever its shape."""
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (40, 60, 3), np.uint8)
    image = Image.fromarray(pixels).resize((1800, 1100)).crop((0, 0, 1500, 1100))
    held_engine.may_go.set()
    with open_server(held_engine) as client:
        found = client.text(STAR, png(image))
    (seen,) = held_engine.images
    side = mini.image_processor.size.shortest_edge or mini.image_processor.size.height
    assert seen.size == (side, side)
    assert torch.equal(mini.preprocess([seen]), mini.preprocess([image]))
    own = Sample(image, STAR, visual_token_num=36, max_new_tokens=16)
    assert found == mini.answer([own])[0].text


# Images by their URL -----------------------------------------------------------------------------

SOMEWHERE = [
    *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1"),
    *(
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
    ),
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fe80::1]"),
    *("[fc00::1]", "[fd00:ec2::254]", "metadata.google.internal", "224.0.0.1", "255.255.255.255"),
    *("pictures.test@127.0.0.1", "127.0.0.1#@pictures.test", "127.0.0.1?@pictures.test"),
    *("pictures.test.evil.example", "evil.example", "pictures.test:80@evil.example"),
    *("pictures.test%00.evil.example", "pictures.test\\@127.0.0.1", "①②⑦.0.0.1", "127。0。0。1"),
    *("inner.test", "both.test", "localhost.", "LOCALHOST", "0177.0.0.1", "127.0.0.1.nip.io"),
    *("[2002:7f00:1::]", "198.18.0.1", "192.0.2.1", "[ff02::1]", "127.0.0.2", "0x0a000001"),
    *("169.254.169.254.", "2852039166", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]"),
]


@pytest.fixture
def reader():
    """Reads images of three hosts, two of which have private addresses."""
    names = {"inner.test": ["10.0.0.7"], "both.test": ["93.184.216.34", "127.0.0.1"]}
    hosts = ["pictures.test", "inner.test", "both.test"]
    guard = Guard(look_up=lambda host, port: names[host], seconds=5)
    return ImageReader(hosts, 1 << 20, 1 << 20, lambda image: image, guard)


def test_no_url_leads_into_the_servers_network(reader, web):
    """Each as http and https; nothing is asked of this machine."""
    assert len(SOMEWHERE) >= 50
    port = web.url.rpartition(":")[2]
    for host in SOMEWHERE:
        for url in (f"http://{host}:{port}/x.png", f"https://{host}/x.png"):
            with pytest.raises(UserError) as caught:
                asyncio.run(reader.read(url))
            assert str(caught.value).isprintable(), url
    assert web.requests == []


def test_images_come_from_hosts_of_the_list_only(web, scene):
    """Also where a redirect leads."""
    web.files["/star.png"] = scene
    here = web.url.rpartition(":")[2]
    web.moved["/moved"] = f"http://other.test:{here}/star.png"
    web.moved["/inside"] = f"http://127.0.0.1:{here}/star.png"
    guard = Guard(look_up=lambda host, port: ["127.0.0.1"], allows=lambda address: True, seconds=10)
    reader = ImageReader(["Pictures.test"], 1 << 20, 1 << 20, lambda image: image, guard)
    assert asyncio.run(reader.read(f"http://pictures.test:{here}/star.png")).size == (96, 96)
    for path in ("moved", "inside"):
        with pytest.raises(UserError, match="fetches no images from"):
            asyncio.run(reader.read(f"http://pictures.test:{here}/{path}"))
    assert [path for _, path, _ in web.requests] == ["/star.png", "/moved", "/inside"]


def test_a_server_without_a_list_fetches_nothing(server, web):
    web.files["/star.png"] = b"x"
    value = {"model": "accm-mini", "messages": [message(STAR, f"{web.url}/star.png")]}
    assert "fetches no images" in server.refused(value)["message"]
    assert web.requests == []


def test_images_that_come_slowly_stop_nobody(open_server, scene, monkeypatch):
    """More of them than the process has workers; a client that leaves frees its place."""
    may_go, asked = threading.Event(), []

    def look_up(host, port):
        asked.append(host)
        may_go.wait(30)
        raise OSError("no such name")

    guard = Guard(look_up=look_up)
    monkeypatch.setattr("llava.serve.openai.server.ImageReader", partial(ImageReader, guard=guard))
    value = {"model": "accm-mini", "messages": [message(STAR, "http://pictures.test/a.png")]}
    with open_server(image_hosts=["pictures.test"]) as client, ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(client.post, value) for _ in range(40)]
        wait_until(lambda: len(asked) == 40)
        with pytest.raises(httpx.ReadTimeout):
            client.http.post(client.PATH, json=value, timeout=0.5)
        assert client.text(STAR, scene) == "black"
        wait_until(lambda: metric(client, "accm_requests_in_flight") == 40)
        may_go.set()
        for each in waiting:
            said = each.result(20).json()["error"]["message"]
            assert "no such name" in said and "send the file itself" in said


# Many, slow and leaving clients ------------------------------------------------------------------


def test_more_requests_than_there_are_places(open_server, held_engine, scene):
    with open_server(held_engine, max_in_flight=1) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.text, STAR, scene)
        assert held_engine.began.wait(60)
        response = client.post(body(STAR, scene))
        assert response.status_code == 429 and int(response.headers["Retry-After"]) > 0
        assert response.json()["error"]["type"] == "rate_limit_error"
        held_engine.may_go.set()
        assert first.result() == "black"
        assert client.text(STAR, scene) == "black"


def test_a_client_that_leaves_frees_its_place_and_ends_its_answer(open_server, held_engine, scene):
    long = "Provide a one-sentence caption for the provided image."
    with open_server(held_engine, max_in_flight=1) as client:
        text = json.dumps(body(long, scene)).encode()
        fields = ("Content-Type: application/json", f"Content-Length: {len(text)}")
        with connect(client.address) as leaving:
            leaving.sendall(head(client.address, f"POST {client.PATH}", *fields) + b"\r\n" + text)
            assert held_engine.began.wait(60)
        wait_until(lambda: metric(client, "accm_requests_in_flight") == 0)
        held_engine.may_go.set()
        assert client.text(STAR, scene) == "black"
        assert held_engine.lengths[0] == 2  # of the 13 that it would have had
        assert metric(client, "accm_clients_left_total") == 1


def test_who_keeps_the_server_waiting_is_cut_and_stops_nobody(open_server, scene):
    with open_server(patience=SHORT, max_in_flight=2) as client:
        length = ("Content-Type: application/json", "Content-Length: 1000000")
        requests = [b"", b"POST /v1", head(client.address, "POST /v1/chat/completions", *length)]
        requests.append(requests[-1] + b"\r\n{")
        requests.append(requests[2] + b"\r\n" + bytes(200_000))
        clients = [connect(client.address) for _ in range(3) for _ in requests]
        for place, each in enumerate(clients):
            each.sendall(requests[place % len(requests)])
        assert client.text(STAR, scene) == "black"
        assert None not in seconds_until_cut(clients, 30)


def test_a_connection_is_kept_between_requests(open_server):
    """Longer than the first lines of a request may take; and then closed."""
    patience = replace(SHORT, head_seconds=0.5, idle_seconds=5)
    with open_server(patience=patience) as client, connect(client.address) as one:
        request = head(client.address, "GET /health") + b"\r\n"
        for _ in range(2):
            one.sendall(request)
            assert read_response(one) == (200, '{"status": "ok"}')
            time.sleep(1.5)
        assert None not in seconds_until_cut([one], 30)


def test_an_answer_that_takes_too_long(open_server, held_engine, scene):
    with open_server(held_engine, max_seconds=1) as client:
        response = client.post(body(STAR, scene))
        assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")


def test_a_failure_inside_is_told_and_the_next_request_answered(open_server, held_engine, scene):
    held_engine.may_go.set()
    with open_server(held_engine) as client:
        error = client.refused(body("Break it", scene), 500)
        assert error["type"] == "server_error" and "something inside" not in error["message"]
        assert client.text(STAR, scene) == "black"


# The end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends_in_time", [True, False])
def test_running_answers_end_or_are_told_when_the_server_stops(
    open_server, held_engine, scene, ends_in_time
):
    def ask(address, **fields):
        with ChatClient(address) as client:
            return client.post(body(STAR, scene, **fields))

    with ThreadPoolExecutor(3) as pool:
        with open_server(held_engine, drain_seconds=20 if ends_in_time else 0.2) as client:
            asked = [pool.submit(ask, client.address, stream=kind) for kind in (False, True)]
            assert held_engine.began.wait(60)
            wait_until(lambda: metric(client, "accm_requests_in_flight") == 2)
            if ends_in_time:
                ending = pool.submit(end_after_503, held_engine, client.address, scene)
        responses = [each.result(60) for each in asked]
    if ends_in_time:
        ending.result(60)
        assert responses[0].json()["choices"][0]["message"]["content"] == "black"
        assert responses[1].text.endswith("data: [DONE]\n\n")
    else:
        assert responses[0].status_code == 503
        assert "stopped" in responses[1].text and "[DONE]" not in responses[1].text


def test_a_request_whose_body_comes_while_the_server_stops(open_server, held_engine, scene):
    text = json.dumps(body(STAR, scene)).encode()
    fields = ("Content-Type: application/json", f"Content-Length: {len(text)}")

    def finish(slow):
        slow.sendall(text[100:])
        return read_response(slow)[0]

    def ask(address):
        with ChatClient(address) as client:
            return client.text(STAR, scene)

    with ThreadPoolExecutor(2) as pool:
        with open_server(held_engine, drain_seconds=20) as client:
            slow = connect(client.address)
            start = head(client.address, "POST /v1/chat/completions", *fields)
            slow.sendall(start + b"\r\n" + text[:100])
            running = pool.submit(ask, client.address)
            assert held_engine.began.wait(60)
            ending = pool.submit(
                end_after_503, held_engine, client.address, scene, partial(finish, slow)
            )
        assert ending.result(60) == 503
        assert running.result(60) == "black"
        slow.close()


def end_after_503(held_engine, address, scene, then=lambda: None):
    """Waits until the server says that it is being stopped; then lets the engine answer."""
    try:
        with ChatClient(address) as client:
            wait_until(lambda: client.http.get("/health").status_code == 503)
            assert client.post(body(STAR, scene)).status_code == 503
        return then()
    finally:
        held_engine.may_go.set()


# Flags -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"port": 0}, "--port is 0"),
        ({"batch_size": 0}, "--batch-size is 0: at least 1"),
        ({"batch_ms": -1.0}, "--batch-ms"),
        ({"drain_seconds": float("nan")}, "--drain-seconds"),
        ({"max_seconds": float("inf")}, "--max-seconds"),
        ({"engine": "vllm"}, "--engine-urls"),
        ({"engine_urls": ["http://a"]}, "--engine-urls"),
        ({"front_device": "cpu"}, "--front-device goes with --engine vllm"),
        ({"engine": "tgi"}, "there is no --engine 'tgi'"),
        ({"api_key": "a", "api_key_variable": "B"}, "give one of --api-key-file"),
    ],
)
def test_wrong_flags(flags, says):
    with pytest.raises(UserError, match=says):
        check_flags(ServeArguments(**flags))


def test_where_the_key_is(tmp_path):
    (tmp_path / "key").write_text("rosebud\n")
    assert read_key(ServeArguments(api_key_file=str(tmp_path / "key")), {}) == "rosebud"
    assert read_key(ServeArguments(api_key_variable="KEY"), {"KEY": "rosebud"}) == "rosebud"
    assert read_key(ServeArguments(), {"KEY": "rosebud"}) is None
    for key in ("", "a b", "ä", "a\nb"):
        with pytest.raises(UserError, match="the key is"):
            read_key(ServeArguments(api_key=key), {})


def test_a_port_in_use(open_server, server):
    port = int(server.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(UserError, match=f"cannot listen on port {port}"):
        with open_server(port=port):
            pass
