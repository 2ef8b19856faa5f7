"""What is said where a package is missing that only a part of the project needs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llava import extras

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r'(?:missing_package|install_command)\((?:[^()]|\([^()]*\))*?"(\w+)",?\s*\)')


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project, with a blank in its name, that extras belongs to."""
    folder = tmp_path / "my copy"
    folder.mkdir()
    monkeypatch.setattr(extras, "_PROJECT", folder)
    return folder


def command():
    message = str(extras.missing_package("the page", "gradio", "web"))
    said = "the page needs gradio, which is not installed: "
    assert message.startswith(said) and len(message.splitlines()) == 1
    return message.removeprefix(said)


def test_in_the_projects_own_environment_the_set_up_adds_it(project, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(project / ".venv"))
    assert command() == f"bash '{project}/scripts/setup.sh' web"


def test_in_another_environment_its_own_pip_does(project, monkeypatch):
    """The line, run by a shell, gives pip the folder and the extra."""
    (project / "pyproject.toml").touch()
    recorder = project / "python"
    recorder.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    recorder.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(recorder))
    done = subprocess.run(["bash", "-c", command()], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["-m", "pip", "install", "-e", f"{project}[web]"]


def test_without_the_sources_the_package_is_named(project, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert command() == "/usr/bin/python3 -m pip install 'llava-accm[web]'"


def test_every_extra_that_is_named_exists():
    named = {
        extra
        for path in ROOT.glob("llava/**/*.py")
        for extra in NAMED.findall(path.read_text("utf-8"))
    }
    assert named == {
        "bench",
        "captions",
        "mmbench",
        "quantized",
        "quickstart",
        "serve",
        "train",
        "web",
    }
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in named:
        assert re.search(rf"^{extra} = \[", project, re.M), extra
