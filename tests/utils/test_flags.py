"""Flags from a dataclass: what they read, what the help shows, what is said of a wrong one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional

import pytest

from llava.arguments import flag, list_flag
from llava.utils.flags import FlagParser, flags_of


@dataclass
class Model:
    """Which model, from
    where. And more."""

    model_path: Optional[str] = flag("A folder.")
    dtype: str = flag("Of all numbers.", "auto", choices=("auto", "float32"))
    captions: bool = flag("Give them back.", True)
    norm: Optional[bool] = flag("Whether there is one. Default: what config.json says.")
    tokens: Optional[int] = flag("To keep.")


@dataclass
class Own(Model):
    """Flags of the command."""

    rate: float = flag("How fast.", 1e-4)
    dry_run: bool = flag("Only say.", False)
    budgets: list[int] = list_flag("Some.", (36, 9))
    names: Optional[List[str]] = flag("Which.", choices=("a", "b"))
    tokens: Optional[int] = flag("Where to begin.", 7)
    seed: int = flag("Of the draw.", 0)


def read(*words):
    return FlagParser(Own, "accm own", "Does it.").read(words)


@pytest.mark.parametrize(
    "words, changes",
    [
        ("", {}),
        ("--model-path m --tokens 3 --rate 2", {"model_path": "m", "tokens": 3, "rate": 2.0}),
        ("--model_path m --dry_run", {"model_path": "m", "dry_run": True}),
        ("--model_path=a_b=c", {"model_path": "a_b=c"}),
        ("--no-captions", {"captions": False}),
        ("--no_captions --captions", {"captions": True}),
        ("--captions False --dry-run yes", {"captions": False, "dry_run": True}),
        ("--norm no", {"norm": False}),
        ("--budgets 1 2 --names b a", {"budgets": [1, 2], "names": ["b", "a"]}),
        ("--tokens 3 --tokens -4", {"tokens": -4}),
    ],
)
def test_words_become_fields(words, changes):
    assert read(*words.split()) == Own(**changes)


def test_a_value_that_looks_like_a_flag_stays_as_it_is():
    assert read("--model-path=--dry_run").model_path == "--dry_run"
    assert read("--model-path", "--dry_run now").model_path == "--dry_run now"


HELP = """\
usage: accm own [flags]

Does it.

Flags of the command:
  --rate X                How fast. Default: 0.0001.
  --dry-run               Only say.
  --budgets N...          Some. Default: 36 9.
  --names a|b...          Which.
  --seed N                Of the draw. Default: 0.

Which model, from where:
  --model-path PATH       A folder.
  --dtype auto|float32    Of all numbers. Default: auto.
  --captions, --no-captions
                          Give them back. Default: yes.
  --norm yes|no           Whether there is one. Default: what config.json says.
  --tokens N              Where to begin. Default: 7.

  --help                  This text.

For example: accm own --tokens 1
"""


def test_the_help_is_grouped_and_has_each_flag_once(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        FlagParser(Own, "accm own", "Does it.", "accm own --tokens 1").read(["--help"])
    assert capsys.readouterr().out == HELP


@pytest.mark.parametrize("columns", ["20", "79", "300"])
def test_a_help_fits_where_it_can(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    lines = FlagParser(Own, "accm own", "Does it. " * 40).format_help().splitlines()
    assert max(map(len, lines)) <= max(int(columns), 50) and max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    "words, says",
    [
        ("--modle-path m", "unknown flags: --modle-path m (did you mean --model-path?)"),
        ("--model m", "unknown flags: --model m (did you mean --model-path?)"),
        ("--no_caption", "unknown flags: --no_caption (did you mean --no-captions?)"),
        ("--Rate=3", "unknown flags: --Rate=3 (did you mean --rate?)"),
        ("--zzz y", "unknown flags: --zzz y; accm own --help lists the flags"),
        ("pope", "unknown words: pope; accm own --help lists the flags"),
        ("--tokens many", "argument --tokens: 'many' is not a whole number"),
        ("--tokens 1.5", "argument --tokens: '1.5' is not a whole number"),
        ("--rate fast", "argument --rate: 'fast' is not a number"),
        ("--norm maybe", "argument --norm: 'maybe' is not yes or no"),
        ("--budgets 1 x", "argument --budgets: 'x' is not a whole number"),
        ("--model-path", "argument --model-path: expected one argument"),
        ("--no-captions=x", "argument --no-captions: ignored explicit argument 'x'"),
    ],
)
def test_a_wrong_flag_is_one_line(capsys, words, says):
    with pytest.raises(SystemExit, match="2"):
        read(*words.split())
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {says}") and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "word", ["--a\nb", "\udce9", "--" + "x" * 10_000, "--tokens=" + "9" * 10_000]
)
def test_odd_words_are_one_short_line(capsys, word):
    with pytest.raises(SystemExit, match="2"):
        read(word)
    err = capsys.readouterr().err
    assert err.isascii() and len(err.splitlines()) == 1 and len(err) < 400


@dataclass
class Asked:
    """Flags of a command that must be told something."""

    name: str = field(metadata={"help": "Whose."})


def test_a_field_without_a_default_is_required(capsys):
    (only,) = flags_of(Asked)
    assert only.is_required and only.choices == ()
    with pytest.raises(SystemExit, match="2"):
        FlagParser(Asked, "x", "x").read([])
    assert "required: --name" in capsys.readouterr().err
