"""The version, installed or not, and that all files agree on it."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import yaml

import llava
from llava import version

ROOT = Path(__file__).parents[1]
(DECLARED,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)


def test_it_is_that_of_the_project_file():
    assert llava.__version__ == DECLARED


def test_it_needs_no_installation_and_no_torch():
    code = "import llava, sys; print(llava.__version__, 'torch' in sys.modules)"
    command = [sys.executable, "-S", "-E", "-c", code]  # without site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{DECLARED} False\n"


def test_without_the_project_file_it_is_that_of_the_installation(tmp_path, monkeypatch):
    other = tmp_path / "pyproject.toml"
    other.write_text('[project]\nname = "another"\nversion = "9"\n')
    monkeypatch.setattr(version, "version", lambda name: {"llava-accm": "0.0.7"}[name])
    assert version.find_version(other) == version.find_version(tmp_path / "gone") == "0.0.7"

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", missing)
    assert version.find_version(other) == "unknown"


def test_how_to_cite_it():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == DECLARED and citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    paper, readme = citation["preferred-citation"], (ROOT / "README.md").read_text("utf-8")
    assert f"title     = {{{paper['title']}}}" in readme
    assert (
        " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]) in readme
    )
    assert f"## {DECLARED}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")
