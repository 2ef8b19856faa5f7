"""Other packages called llava are warned of, copies of this one are not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llava.namesakes import find_namesake, warn_of_namesakes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def alone(monkeypatch):
    """Python finds this project only."""
    monkeypatch.setattr("sys.path", [str(ROOT)])
    assert find_namesake() is None


def make_package(folder):
    (folder / "llava" / "model").mkdir(parents=True)
    (folder / "llava" / "__init__.py").write_text("")
    (folder / "llava" / "model" / "__init__.py").write_text("")
    return folder


@pytest.mark.parametrize("before", [True, False])
def test_another_package_on_the_path(alone, tmp_path, before):
    other = str(make_package(tmp_path))
    sys.path.insert(0 if before else 1, other)
    with pytest.warns(UserWarning, match="another package called llava is in ") as warned:
        warn_of_namesakes()
    (warning,) = warned
    assert other in str(warning.message) and "\n" not in str(warning.message)


def test_an_installed_one(alone, tmp_path):
    """As LLaVA's own editable installation is: without a folder on the path."""
    information = tmp_path / "llava-1.2.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: llava\nVersion: 1.2.2\n")
    sys.path.append(str(tmp_path))
    assert find_namesake().endswith("(llava 1.2.2)")


def test_copies_of_this_project_and_folders_are_none(alone, tmp_path):
    copy = make_package(tmp_path / "copy")
    (copy / "llava" / "model" / "token_pruning").mkdir()
    (tmp_path / "data" / "llava").mkdir(parents=True)
    sys.path += [str(copy), str(tmp_path / "data"), str(tmp_path / "nowhere"), ""]
    assert find_namesake() is None


def test_a_command_says_it_in_a_line(tmp_path):
    other = make_package(tmp_path)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{other}"}
    command = [sys.executable, "-m", "llava.eval.report", "--output", "x", "nowhere"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("warning: another package called llava is in ")
    assert second.startswith("error: ")
