"""``accm serve`` as a process, and the bench of a running server."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llava.eval.bench.__main__ import main as bench
from llava.serve.openai.__main__ import main
from tests.helpers.chat_client import ChatClient
from tests.load.process import free_port

ROOT = Path(__file__).parents[2]
STAR = "What color is the star?"


def test_the_command_serves_until_sigterm(scene, tmp_path):
    key = tmp_path / "key"
    key.write_text("rosebud\n")
    flags = ["--port", str(free_port()), "--device", "cpu", "--visual-token-num", "9"]
    flags += ["--drain-seconds", "600"]  # which a server with nothing to do does not wait
    words = [sys.executable, "-m", "llava.serve.openai", *flags, "--api-key-file", str(key)]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("accm-mini at http://127.0.0.1:"), process.stderr.read()
            with ChatClient(line.split(" at ")[1].split("v1")[0], "rosebud") as client:
                found = client.ask(STAR, scene)
            assert found["choices"][0]["message"]["content"] == "black"
            assert found["usage"]["prompt_tokens_details"]["visual_tokens"] == 9
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 128 + signal.SIGTERM
            assert process.stderr.read() == "stopped by SIGTERM\n"
        finally:
            process.kill()


def test_mistakes_are_one_line(capsys, tmp_path):
    for flags, says in (
        (["--port", "0"], "--port is 0"),
        (["--engine", "vllm"], "--engine-urls"),
        (["--api-key-file", str(tmp_path / "none")], "none"),
        (["--pruner", "accmm"], "there is no pruner 'accmm' (did you mean accm?)"),
        (["--model-path", str(tmp_path)], str(tmp_path)),
    ):
        port = [] if "--port" in flags else ["--port", str(free_port())]
        assert main([*port, *flags]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and says in error


def test_the_bench_of_a_server(server, tmp_path, capsys):
    flags = ["--concurrent", "1", "3", "--budgets", "9", "0", "--answer-lengths", "4", "20"]
    flags += ["--requests", "1", "--warm-up", "1", "--output", str(tmp_path)]
    assert bench(["--serve", server.address, *flags]) == 0
    report = json.loads((tmp_path / "serving.json").read_text())
    cases = report["cases"]
    assert report["model"] == "accm-mini"
    assert [(c["answer_length"], c["budget"], c["concurrent"]) for c in cases] == [
        (length, budget, clients) for length in (4, 20) for budget in (9, 0) for clients in (1, 3)
    ]
    for case in cases:
        assert case["requests"] == case["concurrent"] and not case["failed"]
        assert 0 < case["first_token"]["p50"] <= case["seconds"]["p50"]
        assert 0 < case["tokens"] <= case["answer_length"]
    table = capsys.readouterr().out
    assert table.count("\n") >= 10 and (tmp_path / "serving.md").read_text().strip() in table


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--serve", "http://127.0.0.1:9"], "there is no server with OpenAI's interface at"),
        (["--serve", "nonsense"], "there is no server with OpenAI's interface at"),
        (["--serve=http://127.0.0.1:9", "--requests", "0"], "--requests has 0"),
    ],
)
def test_a_bench_that_cannot_be(capsys, flags, says, tmp_path):
    assert bench([*flags, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_the_bench_wants_the_key(open_server, capsys, tmp_path, monkeypatch):
    with open_server(key="rosebud") as client:
        words = ["--serve", client.address, "--output", str(tmp_path), "--requests", "1"]
        assert bench(words) == 2
        assert "--key-variable" in capsys.readouterr().err
        assert bench([*words, "--key-variable", "NO_KEY"]) == 2
        assert "that variable has no key" in capsys.readouterr().err
        monkeypatch.setenv("KEY", "rosebud")
        words += ["--concurrent", "1", "--budgets", "9", "--answer-lengths", "4"]
        assert bench([*words, "--key-variable", "KEY"]) == 0
