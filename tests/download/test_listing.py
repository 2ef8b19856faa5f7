"""What a hub says about a repository, right or wrong."""

import json

import pytest

from llava.checkpoints.__main__ import main
from llava.checkpoints.download import PUBLISHED
from llava.download.hub import read_listing

GPT2 = PUBLISHED["gpt2"].repository
SHA = "0" * 40
FILE = {"rfilename": "config.json", "size": 2, "blobId": SHA}
LARGE = {"rfilename": "x.bin", "size": 2000, "blobId": SHA, "lfs": {"sha256": "a" * 64, "size": 2}}


def listing(*files, **more) -> bytes:
    return json.dumps({"sha": SHA, "siblings": list(files)} | more).encode()


SOUND = listing(FILE, LARGE, {"rfilename": "no size.json"})
NO_HUB = {
    "nothing": b"",
    "a page": b"<html>",
    "no object": b"[]",
    "a number": b"5",
    "no UTF-8": b'{"sha": "\xff"}',
    "cut": SOUND[:-5],
    "nested 100,000 deep": b"[" * 100_000,
    "nested 100,000 deep in a field": b'{"siblings": ' + b'{"a":' * 100_000,
    "NaN": listing({**FILE, "size": float("nan")}),
    "5,000 digits": listing(FILE).replace(b'"size": 2', b'"size": ' + b"9" * 5000),
    "no files": b'{"sha": "%s"}' % SHA.encode(),
    "files that are an object": listing(siblings={}),
    "a file that is a text": listing("config.json"),
    "a file that is nothing": listing(None),
    "a name that is a number": listing({**FILE, "rfilename": 5}),
    "a name that is not there": listing({"size": 5}),
    "a name that is half a surrogate pair": listing({**FILE, "rfilename": "\udc80.json"}),
    "a size that is a text": listing({**FILE, "size": "2"}),
    "a size that is negative": listing({**FILE, "size": -1}),
    "a size that is true": listing({**FILE, "size": True}),
    "a size that is a fraction": listing({**FILE, "size": 0.5}),
    "a size of 10^400": listing({**FILE, "size": 10**400}),
    "a hash that is a number": listing({**FILE, "blobId": 5}),
    "a hash that is too short": listing({**FILE, "blobId": "abc"}),
    "a hash of letters": listing({**LARGE, "lfs": {"sha256": "x" * 64}}),
    "no hash of a large file": listing({**LARGE, "lfs": {}}),
    "a hash that is a list": listing({**LARGE, "lfs": [1]}),
    "a commit that is a path": listing(FILE, sha="../../main"),
    "no commit": b'{"siblings": []}',
    "two files of one name": listing(FILE, {**FILE, "size": 3}),
}


@pytest.fixture
def download(web, network, tmp_path, capsys):
    """Fetches GPT-2 from a hub with a given listing; gives the exit status and what was said."""

    def run(content):
        web.add_repository(GPT2, {"config.json": b"{}", "vocab.json": b"{}", "merges.txt": b""})
        web.files[f"/api/models/{GPT2}"] = content
        status = main(["download", "gpt2", "--checkpoints-root", str(tmp_path)], network)
        return status, capsys.readouterr().err

    return run


@pytest.mark.parametrize("name", NO_HUB)
def test_what_is_no_hub_is_one_line(download, tmp_path, name):
    status, err = download(NO_HUB[name])
    assert status == 2 and err.startswith("error: ") and "is no hub" in err
    assert len(err.splitlines()) == 1 and len(err) < 600 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        *("../vocab.json", "/vocab.json", "a\\vocab.json", "a:vocab.json", "a\0/vocab.json"),
        *(
            f"{'n' * 5000}/vocab.json",
            "\n/vocab.json",
            "\u202e/vocab.json",
            "a/" * 400 + "vocab.json",
        ),
    ],
)
def test_names_that_would_go_astray(network, web, tmp_path, capsys, name):
    web.add_repository(PUBLISHED["clip"].repository, {})
    files = [{**FILE, "rfilename": path} for path in ("merges.txt", "x.safetensors", f"{name}")]
    web.files[f"/api/models/{PUBLISHED['clip'].repository}"] = listing(*files)
    assert main(["download", "clip", "--checkpoints-root", str(tmp_path)], network) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "would go astray" in err
    assert len(err.splitlines()) == 1 and len(err) < 600 and not list(tmp_path.iterdir())


def test_a_sound_one_is_read_whole():
    commit, files = read_listing(SOUND, "x/y")
    assert commit == SHA
    assert files == {
        "config.json": {"size": 2, "git_sha1": SHA},
        "x.bin": {"size": 2000, "sha256": "a" * 64},
        "no size.json": {"size": None},
    }


def test_one_that_is_too_long_is_refused(network, web, download, tmp_path):
    status, err = download(b'{"sha": "' + b" " * 2**26 + b'"}')
    assert status == 2 and "sends more than the 67,108,864 bytes" in err


def test_any_bytes_are_a_listing_or_one_message(fuzz):
    fuzz(lambda content: read_listing(content, "x/y"), [SOUND, listing(), *NO_HUB.values()])
