"""accm: its help, what it hands on to, and what it says of a slip of the fingers."""

import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from llava import command
from llava.command import COMMANDS, STAGES, called, main
from llava.utils import cli as eval_command

ROOT = Path(__file__).parents[1]
# Every command that has flags, by the words in front of them.
FLAGGED = [
    "chat",
    "web",
    "serve",
    "answer pope",
    "answer",
    "score mme",
    "sweep",
    "report",
    "trace",
    "bench",
]
FLAGGED += [
    f"{name} {word}" for name in ("benchmarks", "checkpoints") for word in COMMANDS[name].words
]
FLAGGED += [f"train {stage}" for stage in STAGES]

IN_A_FRESH_PROCESS = """
import sys
from llava.command import main
sys.argv[0] = "accm"
main({words})
print(sorted({{"torch", "transformers", "numpy"}} & set(sys.modules)))
"""

HELP_WITHOUT_LIBRARIES = """
import importlib, inspect, io, sys, traceback
from contextlib import redirect_stdout

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {libraries}:
            raise AssertionError(name + " is imported")

sys.meta_path.insert(0, Refuse())
for module, *words in {commands}:
    try:
        command = importlib.import_module(module).main
        if inspect.signature(command).parameters:  # else it has no flags
            with redirect_stdout(io.StringIO()) as out:
                command([*words, "--help"])
    except SystemExit:
        pass
    except AssertionError as error:
        last = traceback.extract_tb(error.__traceback__)
        print(module, error, [frame.filename for frame in last if "llava" in frame.filename][-1])
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["train", "--help"], ["--version"]])
def test_what_needs_no_model_loads_no_library_for_one(words):
    assert run(IN_A_FRESH_PROCESS.format(words=words))[-1] == "[]"


def test_no_command_imports_a_library_of_models_to_read_its_flags():
    sources = [path for path in (ROOT / "llava").rglob("*.py") if "__main__" in path.read_text()]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources}
    all_commands = [*COMMANDS.values(), *STAGES.values()]
    assert {one.module for one in all_commands} <= modules - {"llava.command"}
    with_words = [[one.module, word] for one in COMMANDS.values() for word in one.words]
    commands = [*([name] for name in sorted(modules - {"llava.command"})), *with_words]
    libraries = {"torch", "transformers", "open_clip", "gradio"}
    assert run(HELP_WITHOUT_LIBRARIES.format(libraries=libraries, commands=commands)) == []


def test_the_help_is_one_screen_with_every_command():
    lines = run(IN_A_FRESH_PROCESS.format(words=["--help"]))[:-1]
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert lines[0] == "usage: accm COMMAND [flags]"
    assert [line.split()[0] for line in lines if re.match(r"  \w+ {2,}", line)] == list(COMMANDS)
    assert len([line for line in lines if line.startswith("  accm ")]) == 4


def test_the_module_is_the_command_where_nothing_is_installed():
    words = [sys.executable, "-m", "llava", "train"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m llava train COMMAND [flags]\n")
    assert all(f"\n  {stage} " in done.stderr for stage in STAGES)


def test_the_installed_command_is_this_one():
    (value,) = re.findall(r'^accm = "(llava\..*)"$', (ROOT / "pyproject.toml").read_text(), re.M)[
        :1
    ]
    assert EntryPoint("accm", value, "console_scripts").load() is main


def test_the_version_is_that_of_the_package(capsys):
    (number,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"accm {number}\n"


@pytest.mark.parametrize(
    "words, says",
    [
        (["caht"], "there is no command caht (did you mean chat?); accm --help lists all"),
        (["Benchmark"], "there is no command Benchmark (did you mean benchmarks?)"),
        (["--verison"], "there is no command --verison; accm --help lists all"),
        (["train", "slector"], "slector (did you mean selector?); python -m llava.train --help"),
        (["a\nb"], r"there is no command 'a\nb'"),
        (["answer"], "name a benchmark first, one of: mme, mmbench"),
        (["score", "popes"], "gqa, flickr (did you mean pope?)"),
        (["checkpoints", "downlod"], "one of: download, verify, convert (did you mean download?)"),
        (["completion", "fish"], "name one shell: bash, zsh"),
    ],
)
def test_a_word_that_is_none_gets_one_line(capsys, words, says):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and says in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("words", FLAGGED)
def test_a_help_has_each_flag_once(capsys, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/accm"])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), "--help"])
    assert not ended.value.code
    text = capsys.readouterr().out
    usage = words if words != "answer" else "answer mme|mmbench|pope|mmvp|seed|gqa|flickr"
    assert text.startswith(f"usage: accm {usage} [") and "``" not in text
    heads = re.findall(r"^  (--[a-z].*?)(?:  |$)", text, re.M)
    flags = [flag for head in heads for flag in re.findall(r"--[\w-]+", head)]
    assert flags and len(flags) == len(set(flags))
    assert not any("_" in flag for flag in flags)
    assert "None" not in text and "DEFAULT" not in text


EXAMPLES = [(name, one.example) for name, one in COMMANDS.items() if one.example]


@pytest.mark.parametrize("name, example", EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_examples_are_understood(capsys, monkeypatch, name, example):
    """Up to the work, which is left out."""
    module = import_module(COMMANDS[name].module)
    for place in (eval_command, module):
        if hasattr(place, "guard"):
            monkeypatch.setattr(place, "guard", lambda work, command="": 0)
    words = shlex.split(example.partition(" > ")[0])
    if words[-1] == "--help":
        with pytest.raises(SystemExit, match="0"):
            main([name, *words])
    else:
        assert main([name, *words]) == 0


@pytest.mark.parametrize(
    "program, words, typed",
    [
        ("/usr/bin/accm", "llava.serve.web", "accm web"),
        (r"accm.exe", "llava.eval.answer pope", "accm answer pope"),
        ("/x/llava/__main__.py", "llava.train.train_long_clip", "python -m llava train long-clip"),
        ("/x/llava/serve/web/__main__.py", "llava.serve.web", "python -m llava.serve.web"),
        ("accm", "llava.mini.make_data", "python -m llava.mini.make_data"),
        ("pytest", "llava.eval.trace", "python -m llava.eval.trace"),
    ],
)
def test_a_help_says_how_its_reader_calls_it(monkeypatch, program, words, typed):
    monkeypatch.setattr(sys, "argv", [program])
    assert called(words) == typed


def test_ctrl_c_while_a_command_is_imported_is_one_line(capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "import_module", interrupted)
    assert main(["chat"]) == 130
    assert capsys.readouterr().err == "stopped by the user\n"
