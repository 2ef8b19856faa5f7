"""Checkpoints fetched from a stand-in of the hub."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llava.checkpoints.__main__ import main
from llava.checkpoints.download import PUBLISHED, download
from llava.download.hub import Repository, list_files
from llava.download.line import Network
from llava.errors import UserError
from tests.helpers.waiting import wait_until

ROOT = Path(__file__).parents[2]
LARGE = os.urandom(2_500_000)
LLAVA = {
    "config.json": b'{"model_type": "llava"}',
    "tokenizer.model": b"sentences",
    "pytorch_model-00001-of-00002.bin": LARGE,
    "pytorch_model-00002-of-00002.bin": LARGE[::-1],
    "pytorch_model.bin.index.json": b"{}",
    "README.md": b"not wanted",
}
ACCM = {"weights/coco_prefix-009.pt": b"c" * 5000, "weights/llava-RL_prefix-019.pt": b"s" * 5000}
LLAVA_7B = PUBLISHED["llava-v1.5-7b"]
SECOND = "pytorch_model-00002-of-00002.bin"


@pytest.fixture
def hub(web):
    """The stand-in with LLaVA and the method's own parts."""
    web.at = web.add_repository(LLAVA_7B.repository, LLAVA)
    web.add_repository(PUBLISHED["accm"].repository, ACCM)
    return web


def start(hub, root, *names):
    """The command in a process of its own: the hub's address is read when it begins."""
    words = ["-m", "llava.checkpoints", "download", *names, "--checkpoints-root", str(root)]
    settings = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | settings,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(folder):
    """Whether the folder holds what of LLaVA is wanted, and nothing else."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {name: content for name, content in LLAVA.items() if name != "README.md"}


def test_a_killed_download_goes_on_where_it_stopped_and_fetches_nothing_twice(
    hub, network, tmp_path, capsys
):
    """As a user has it: HF_ENDPOINT names the hub, the same command is given again."""
    second, partial = f"{hub.at}/{SECOND}", tmp_path / "llava-v1.5-7b" / f"{SECOND}.partial"
    hub.stalls[second] = 2_200_000
    killed = start(hub.url, tmp_path, "llava-v1.5-7b")
    wait_until(lambda: partial.is_file() and partial.stat().st_size >= 2 * 2**20)
    killed.send_signal(signal.SIGKILL)
    out, err = killed.communicate(timeout=60)
    assert "liuhaotian/llava-v1.5-7b -> " in out and "licence: Llama 2" in out and "GB free" in out
    assert "/5 [" in err  # progress
    had = partial.stat().st_size
    del hub.stalls[second]
    hub.requests.clear()

    words = ["download", "llava-v1.5-7b", "accm", "--checkpoints-root", str(tmp_path)]
    assert main(words, network) == 0
    out = capsys.readouterr().out
    check(tmp_path / "llava-v1.5-7b")
    assert hub.fetched(second) == [f"bytes={had}-"]
    assert not hub.fetched(f"{hub.at}/pytorch_model-00001-of-00002.bin")
    assert (tmp_path / "accm" / "coco_prefix-009.pt").read_bytes() == b"c" * 5000
    assert "there: liuhaotian/llava-v1.5-7b, 5 files as on the hub" in out


def test_no_hub_is_one_line(tmp_path, capsys):
    words = ["download", "gpt2", "--checkpoints-root", str(tmp_path)]
    assert main(words, Network("http://127.0.0.1:9", wait=0.01)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: openai-community/gpt2 could not be fetched")
    assert len(err.splitlines()) == 1


def test_a_line_that_is_cut_is_taken_up_again(hub, network, tmp_path):
    hub.cuts[f"{hub.at}/{SECOND}"] = 1_200_000
    download(LLAVA_7B, tmp_path, network)
    check(tmp_path / "llava-v1.5-7b")
    assert len(hub.fetched(f"{hub.at}/{SECOND}")) == 2


def test_wrong_and_partial_files_under_the_right_names_are_fetched_again(hub, network, tmp_path):
    folder = tmp_path / "llava-v1.5-7b"
    download(LLAVA_7B, tmp_path, network)
    hub.requests.clear()
    (folder / SECOND).write_bytes(LARGE)  # of the same size
    (folder / "pytorch_model-00001-of-00002.bin").write_bytes(LARGE[:1_000_000])
    (folder / "config.json").write_bytes(b'{"model_type": "other"}')
    download(LLAVA_7B, tmp_path, network)
    check(folder)
    assert sum("/resolve/" in path for _, path, _ in hub.requests) == 3
    hub.requests.clear()
    download(LLAVA_7B, tmp_path, network)
    assert [path for _, path, _ in hub.requests] == [f"/api/models/{LLAVA_7B.repository}"]


def test_safetensors_are_preferred(hub, network, tmp_path):
    hub.add_repository(LLAVA_7B.repository, LLAVA | {"model.safetensors": b"all"})
    names = {path.name for path in download(LLAVA_7B, tmp_path, network)}
    assert "model.safetensors" in names and not any(name.endswith(".bin") for name in names)


def test_a_full_disk_is_one_message_and_the_same_command_goes_on(hub, network, tmp_path):
    partial = tmp_path / "llava-v1.5-7b" / f"{SECOND}.partial"
    partial.parent.mkdir()
    partial.symlink_to("/dev/full")
    with pytest.raises(UserError, match="no room left in .* make room there; the same command"):
        download(LLAVA_7B, tmp_path, network)
    partial.unlink()
    download(LLAVA_7B, tmp_path, network)
    check(tmp_path / "llava-v1.5-7b")
    assert len(hub.fetched(f"{hub.at}/pytorch_model-00001-of-00002.bin")) == 1


def test_what_cannot_fit_is_not_begun(hub, network, tmp_path):
    about = hub.files[f"/api/models/{LLAVA_7B.repository}"]
    hub.files[f"/api/models/{LLAVA_7B.repository}"] = about.replace(b"2500000", b"9" * 16)
    with pytest.raises(UserError, match=r"takes .* GB more and .* GB left: make room"):
        download(LLAVA_7B, tmp_path, network)
    assert not list(tmp_path.rglob("*.bin"))


@pytest.mark.parametrize(
    "files, says",
    [
        ({"coco_prefix-009.pt": b"c"}, "has no file \\*llava-RL_prefix-019.pt"),
        (ACCM | {"old/coco_prefix-009.pt": b"c"}, "several files of one name"),
    ],
)
def test_a_repository_that_has_changed(hub, network, tmp_path, files, says):
    hub.add_repository(PUBLISHED["accm"].repository, files)
    with pytest.raises(UserError, match=says):
        download(PUBLISHED["accm"], tmp_path, network)
    assert not list(tmp_path.rglob("*.pt"))


def test_a_repository_that_does_not_exist(hub, network, tmp_path):
    with pytest.raises(UserError, match="there is no model openai-community/gpt2 on the hub"):
        download(PUBLISHED["gpt2"], tmp_path, network)


def test_a_file_that_would_leave_its_folder_is_refused(hub, network, tmp_path):
    hub.add_repository(LLAVA_7B.repository, LLAVA | {"../../evil.json": b"{}"})
    with pytest.raises(UserError, match="would go astray"):
        download(LLAVA_7B, tmp_path / "deep" / "deeper", network)
    assert not list(tmp_path.rglob("evil.json"))


def test_the_hub_tells_sizes_and_hashes(hub, network):
    files = list_files(Repository(LLAVA_7B.repository, network=network), ("*",))
    assert files[SECOND].size == len(LARGE) and len(files[SECOND].sha256) == 64
    assert files["config.json"].sha256 is None and len(files["config.json"].git_sha1) == 40


def test_a_dry_run_fetches_nothing(hub, network, tmp_path, capsys):
    words = ["download", "all", "--checkpoints-root", str(tmp_path), "--dry-run"]
    assert main(words, network) == 0 and not hub.requests
    assert "about 17.6 GB in all" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "answer, says",
    [(b"<html>Hello</html>", "is no hub .* check HF_ENDPOINT"), (b"[]", "is no hub")],
)
def test_an_endpoint_that_is_no_hub(hub, network, tmp_path, answer, says):
    hub.files["/api/models/openai-community/gpt2"] = answer
    with pytest.raises(UserError, match=says):
        download(PUBLISHED["gpt2"], tmp_path, network)


def test_a_hub_that_fails(hub, network, tmp_path):
    hub.answers[f"/api/models/{LLAVA_7B.repository}"] = [500] * 9
    with pytest.raises(UserError, match="v1.5-7b could not be fetched .*500"):
        download(LLAVA_7B, tmp_path, network)
