"""Single files: cut lines, halves of earlier runs, wrong contents, full disks, bad servers."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from llava.download.fetch import Remote, fetch
from llava.download.line import Address, Network
from llava.errors import UserError
from llava.files import NO_LOCKS

CONTENT = bytes(range(256)) * 8192  # 2 MiB
HEAD = b'HTTP/1.1 200 OK\r\nETag: "%%s"\r\nContent-Length: %d\r\n\r\n' % len(CONTENT)
PART = (
    b'HTTP/1.1 206 Part\r\nETag: "%%s"\r\nContent-Length: %%d\r\n'
    b"Content-Range: bytes %%d-%d/%d\r\n\r\n" % (len(CONTENT) - 1, len(CONTENT))
)


@pytest.fixture
def remote(web, network):
    web.files["/big"] = CONTENT
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Remote(Address(f"{web.url}/big", network=network), len(CONTENT), sha256=digest)


def test_a_file_comes_whole_and_is_not_fetched_twice(web, remote, tmp_path):
    path = tmp_path / "new" / "folder" / "big"
    assert fetch(remote, path) and path.read_bytes() == CONTENT
    assert not fetch(remote, path)
    assert web.fetched("/big") == [None]
    assert [file.name for file in path.parent.iterdir()] == ["big"]


def test_a_cut_line_is_taken_up_again(web, remote, tmp_path):
    web.cuts["/big"] = 2**20 + 5
    assert fetch(remote, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT
    assert len(web.fetched("/big")) == 2
    start = int(web.fetched("/big")[1].removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 2**20 + 5


def test_half_a_file_of_an_earlier_run_is_gone_on_with(web, remote, tmp_path):
    (tmp_path / "big.partial").write_bytes(CONTENT[:1_500_000])
    assert fetch(remote, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT
    assert web.fetched("/big") == ["bytes=1500000-"]


def test_a_server_without_ranges_sends_all_of_it_again(web, remote, tmp_path):
    web.ranges = False
    (tmp_path / "big.partial").write_bytes(CONTENT[:1_500_000])
    assert fetch(remote, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT


@pytest.mark.parametrize("half", [b"another edition", CONTENT + b"longer", CONTENT[1:] + b"!"])
def test_half_of_something_else_is_thrown_away(web, remote, tmp_path, half):
    (tmp_path / "big.partial").write_bytes(half)
    assert fetch(remote, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [b"", CONTENT[:-1], b"!" + CONTENT[1:]])
def test_a_wrong_file_of_the_right_name_is_replaced(web, remote, tmp_path, wrong):
    (tmp_path / "big").write_bytes(wrong)
    assert fetch(remote, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT


def test_a_partial_file_of_which_only_the_server_knows_the_size(web, remote, tmp_path):
    (tmp_path / "big").write_bytes(CONTENT[:1000])
    assert fetch(Remote(remote.address), tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == CONTENT
    assert not fetch(Remote(remote.address), tmp_path / "big")


def test_other_contents_than_announced_are_not_taken(web, remote, tmp_path):
    web.files["/big"] = CONTENT[::-1]
    with pytest.raises(UserError, match="other contents"):
        fetch(remote, tmp_path / "big")
    assert not list(tmp_path.iterdir())


def test_errors_that_pass_are_waited_for(web, remote, tmp_path):
    web.answers["/big"] = [503, 429, 500]
    assert fetch(remote, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answers, says",
    [
        ([404], "not there any more"),
        ([410], "not there any more"),
        ([418], "answered 418\\)"),
        ([403], "a login or a permission"),
        ([503] * 9, "answered 503"),
    ],
)
def test_errors_that_do_not_pass_are_one_message(web, remote, tmp_path, answers, says):
    web.answers["/big"] = list(answers)
    with pytest.raises(UserError, match=says) as caught:
        fetch(remote, tmp_path / "big")
    assert "goes on where it stopped" in str(caught.value)
    assert len(web.fetched("/big")) <= 4


def test_a_server_that_has_less_than_it_should_is_given_up(web, remote, tmp_path):
    web.files["/big"] = CONTENT[:-1]
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(remote, tmp_path / "big")
    assert len(web.requests) < 20


def test_nobody_there(tmp_path):
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(Remote(Address("http://127.0.0.1:9/x", network=Network(wait=0.01))), tmp_path / "x")


def test_a_full_disk_is_one_message_and_the_same_call_goes_on(web, remote, tmp_path):
    (tmp_path / "big.partial").symlink_to("/dev/full")  # every write says that the disk is full
    with pytest.raises(UserError, match="no room left in .* make room there; the same command"):
        fetch(remote, tmp_path / "big")
    (tmp_path / "big.partial").unlink()
    assert fetch(remote, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT


def test_a_part_that_begins_elsewhere_is_not_put_behind_what_is_there(web, remote, tmp_path):
    web.shifts["/big"] = 10
    (tmp_path / "big.partial").write_bytes(CONTENT[:1_500_000])
    assert fetch(Remote(remote.address, len(CONTENT)), tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == CONTENT
    assert web.fetched("/big") == ["bytes=1500000-", None]


def test_an_empty_file_has_a_size(web, remote, tmp_path):
    web.files["/big"] = b""
    (tmp_path / "big").write_bytes(b"something else")
    assert fetch(Remote(remote.address), tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == b""


def test_a_file_that_another_is_fetching_is_left_to_it(web, remote, tmp_path):
    web.stalls["/big"] = 2**20
    with ThreadPoolExecutor() as pool:
        other = pool.submit(fetch, remote, tmp_path / "big")
        while not web.requests and not other.done():
            time.sleep(0.01)
        try:
            with pytest.raises(UserError, match="another process is fetching .*big: wait for it"):
                fetch(remote, tmp_path / "big")
        finally:
            web.stalls.clear()
            web.closing.set()
        assert other.result(30)
    assert (tmp_path / "big").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["big"]


def test_a_file_that_has_moved_keeps_its_half_and_the_login_stays_at_home(web, remote, tmp_path):
    """As the hub does with large files: they lie in a store of another address."""
    store = type(web)()
    store.files["/store"] = CONTENT
    web.moved["/big"] = f"{store.url}/store"
    (tmp_path / "big.partial").write_bytes(CONTENT[:1_500_000])
    address = replace(remote.address, headers={"Authorization": "Bearer secret"})
    try:
        assert fetch(replace(remote, address=address), tmp_path / "big")
    finally:
        store.close()
    assert (tmp_path / "big").read_bytes() == CONTENT
    assert store.fetched("/store") == ["bytes=1500000-"]
    assert web.logins == ["Bearer secret"] and not store.logins


def test_another_edition_is_not_put_behind_half_of_the_first(web, remote, tmp_path):
    """Of a file without a hash, in two runs: the note beside the half tells."""
    plain = Remote(remote.address)
    web.behaviours["/big"] = lambda asked: [HEAD % b"first" + CONTENT[:70_000]]
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(plain, tmp_path / "big")
    half = (tmp_path / "big.partial").stat().st_size
    assert half == 70_000 and (tmp_path / "big.partial.edition").is_file()

    web.files["/big"] = CONTENT[::-1]
    web.behaviours["/big"] = lambda asked: (
        [PART % (b"second", len(CONTENT) - asked.start, asked.start) + CONTENT[::-1][asked.start :]]
        if asked.start
        else None
    )
    assert fetch(plain, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT[::-1]
    assert [file.name for file in tmp_path.iterdir()] == ["big"]


def test_half_of_the_same_edition_is_gone_on_with(web, remote, tmp_path):
    plain = Remote(remote.address)
    head = HEAD % b"first" + CONTENT[:70_000]
    web.behaviours["/big"] = lambda asked: [head] if asked.start is None else []
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(plain, tmp_path / "big")
    web.behaviours["/big"] = lambda asked: [
        PART % (b"first", len(CONTENT) - asked.start, asked.start)
        + CONTENT[asked.start : asked.stop]
    ]
    web.requests.clear()
    assert fetch(plain, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT
    assert web.fetched("/big") == ["bytes=0-0", "bytes=70000-"]


@pytest.mark.parametrize("note", [b"", b"junk", b"\xff\xfe\0", b"x" * 10**6])
def test_a_note_of_any_bytes_is_of_another_edition(web, remote, tmp_path, note):
    (tmp_path / "big.partial").write_bytes(b"!" * 1000)
    (tmp_path / "big.partial.edition").write_bytes(note)
    assert fetch(Remote(remote.address), tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [429, 503])
def test_a_server_that_asks_to_be_left_alone_is(web, remote, tmp_path, capsys, answer):
    busy = b"HTTP/1.1 %d Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n" % answer
    web.behaviours["/big"] = lambda asked: [busy] if asked.number == 1 else None
    assert fetch(remote, tmp_path / "big") and (tmp_path / "big").read_bytes() == CONTENT
    assert f"/big answered {answer}: trying again in 1 s, as it asks" in capsys.readouterr().err


def test_nothing_is_begun_that_does_not_fit(web, remote, tmp_path):
    """Of a file whose size only its server says."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**17
    web.behaviours["/big"] = lambda asked: [head + CONTENT]
    with pytest.raises(UserError, match="takes 100000000.00 GB more and .* make room"):
        fetch(Remote(remote.address), tmp_path / "big")
    assert not (tmp_path / "big.partial").stat().st_size


@pytest.mark.parametrize("number", sorted(NO_LOCKS))
def test_a_file_system_without_locks(web, remote, tmp_path, monkeypatch, number):
    def flock(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match="does not know locks"):
        assert fetch(remote, tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == CONTENT
