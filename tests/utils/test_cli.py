"""What every command does around its work: signals, output, advice, flags without effect."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass

import pytest
import torch

from llava.arguments import ModelArguments, flag
from llava.utils.cli import guard, run_command
from llava.utils.stopping import noting_what_is_kept


@pytest.mark.parametrize("name, status", [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_in_order(capsys, name, status):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, tests ignore SIGHUP
    ended = []

    def work() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            ended.append(True)
        return 0

    try:
        assert guard(work) == status
        assert ended == [True]
        assert capsys.readouterr().err == f"stopped by {name}\n"
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


LAUNCHED = dict(
    RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="29500"
)


@pytest.mark.parametrize(
    "kept, environment, says",
    [
        (
            "3 of 5 are answered",
            {},
            ": 3 of 5 are answered; the same command goes on: python x 'y z'",
        ),
        # Of several processes only the launcher's command starts them all.
        ("3 of 5 are answered", LAUNCHED, ": 3 of 5 are answered; the same command goes on"),
        (None, {}, ""),
    ],
)
def test_work_that_is_stopped_says_what_is_kept(capsys, monkeypatch, kept, environment, says):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def work() -> int:
        with noting_what_is_kept(lambda: kept):
            raise KeyboardInterrupt

    assert guard(work, "python x 'y z'") == 130
    assert capsys.readouterr().err == f"stopped by the user{says}\n"


def test_what_is_ignored_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert guard(lambda: os.kill(os.getpid(), signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


STUCK = """
import ctypes, os, signal, threading
from llava.utils import stopping
stopping.GRACE = 0.2
mutex = ctypes.create_string_buffer(64)
lock = ctypes.CDLL(None).pthread_mutex_lock
with stopping.ending_in_order():
    lock(mutex)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    lock(mutex)  # Python gets no turn any more
"""


def test_work_that_does_not_hear_is_ended_too():
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "stopped by SIGTERM\n")


@pytest.mark.parametrize("text", ["caf\u00e9", "\udce9.jpg", "\u2603"])
def test_any_text_can_be_printed(monkeypatch, text):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
    assert guard(lambda: print(text, flush=True) or 0) == 0
    assert (
        out.getvalue().decode("ascii").strip() == text.encode("ascii", "backslashreplace").decode()
    )


def test_a_warning_is_one_line(monkeypatch):
    text = []
    monkeypatch.setattr(
        warnings, "showwarning", lambda *words: text.append(warnings.formatwarning(*words[:4]))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert guard(lambda: warnings.warn("two\nlines") or 0) == 0
    assert text == ["warning: two lines\n"]


@dataclass
class Asking:
    """Flags of a command that asks."""

    batch_size: int = flag("Questions at once.", 8)


@dataclass
class Nothing:
    """Flags of a command that has none."""


@pytest.mark.parametrize(
    "arguments, less_memory, advice",
    [
        (Asking, None, ": try a smaller --batch-size"),
        (Asking, "less of it", ": try less of it"),
        (Nothing, None, ""),
        (ModelArguments, None, ": try --dtype bfloat16 or --device-map auto"),
    ],
)
def test_advice_names_flags_that_the_command_has(capsys, arguments, less_memory, advice):
    def work(args) -> int:
        raise torch.OutOfMemoryError("no room\nfor more")

    assert run_command(arguments, work, "x", "x", [], less_memory) == 2
    said = capsys.readouterr().err
    assert said == f"error: the memory of the device is not enough (no room){advice}\n"


def test_the_cpu_has_no_device_map(capsys):
    flags = ["--model-path", "m", "--device", "cpu", "--device-map", "auto"]
    assert run_command(ModelArguments, lambda args: 0, "x", "x", flags) == 2
    assert "--device-map auto spreads the LLM over GPUs" in capsys.readouterr().err


def test_no_hidden_file_holds_flags(tmp_path, monkeypatch):
    """transformers' parser would read what stands beside the program as PROGRAM.args."""
    (tmp_path / "program.args").write_text("--model_path hidden")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "program.py")])
    seen = []
    assert (
        run_command(ModelArguments, lambda args: seen.append(args.model_path) or 0, "x", "x") == 0
    )
    assert seen == [None]
