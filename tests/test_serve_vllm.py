"""scripts/serve_vllm.sh starts, keeps and stops engine and front; programs stand in for both."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.helpers.waiting import wait_until
from tests.load.process import free_port

ROOT = Path(__file__).parents[1]
# In place of the project's Python: the front runs until it is stopped; small checks really run.
FRONT = """#!/usr/bin/env bash
case "$*" in
*"llava.serve.openai"*)
    echo "front $*" >>{calls}
    trap 'echo "front stopped" >>{calls}; exit 143' TERM
    while :; do sleep 0.05; done ;;
*"llava.checkpoints convert"*)
    echo "convert $*" >>{calls}
    mkdir -p "${{*: -1}}" ;;
*) exec {python} "$@" ;;
esac
"""
# In place of vLLM's.
ENGINE = """#!/usr/bin/env bash
echo "engine kv=$VLLM_CPU_KVCACHE_SPACE $*" >>{calls}
[ ! -e {calls}.broken ] || {{ echo "no such flag"; exit 3; }}
exec {python} -c '
import http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
def stop(*_):
    open("{calls}", "a").write("engine stopped\\n"); sys.exit()
signal.signal(signal.SIGTERM, stop)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()' "$@"
"""


@pytest.fixture
def tree(tmp_path):
    """A project whose programs write down their calls; vLLM is set up already."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for folder, text in ((".venv", FRONT), (".venv-vllm", ENGINE)):
        program = tmp_path / folder / "bin" / "python"
        program.parent.mkdir(parents=True)
        program.write_text(text.format(calls=tmp_path / "calls", python=sys.executable))
        program.chmod(0o755)
    (tmp_path / ".venv-vllm" / "installed").touch()
    (tmp_path / "calls").touch()
    return tmp_path


def calls(tree):
    return (tree / "calls").read_text().splitlines()


def wait_for(tree, *starts):
    """Waits until there is a call that begins so for each."""
    wait_until(
        lambda: all(any(call.startswith(s) for call in calls(tree)) for s in starts), seconds=90
    )


@pytest.fixture
def start(tree):
    """start(*flags, **settings) runs the script; what still runs at the end is stopped."""
    started = []

    def start(*flags, **settings):
        started.append(
            subprocess.Popen(
                ["bash", "scripts/serve_vllm.sh", *flags],
                cwd=tree,
                env={"PATH": os.environ["PATH"], "DTYPE": "float32", "PORT": str(free_port())}
                | settings,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


def test_engines_and_front_start_and_stop_in_order(tree, start):
    ports = [str(free_port()), str(free_port())]
    process = start("--visual-token-num", "9", ENGINE_PORTS=" ".join(ports), KV_GIB="2")
    wait_for(tree, "front")
    convert, *engines, front = calls(tree)
    assert convert.endswith(
        "convert checkpoints/accm-mini --part llm --output outputs/llm/accm-mini"
    )
    for port in ports:
        (call,) = [call for call in engines if f"--port {port}" in call]
        assert call.startswith("engine kv=2 -m vllm.entrypoints.openai.api_server")
        assert "--enable-prompt-embeds --host 127.0.0.1" in call and "--dtype float32" in call
    urls = " ".join(f"http://127.0.0.1:{port}" for port in ports)
    assert front.endswith(f"--engine vllm --engine-urls {urls} --visual-token-num 9")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert calls(tree)[-3:] == ["front stopped", "engine stopped", "engine stopped"]


def test_an_engine_that_dies_is_started_again(tree, start):
    port = str(free_port())
    process = start(ENGINE_PORTS=port)
    wait_for(tree, "front")
    found = subprocess.run(["pgrep", "-f", "--", f"--port {port}"], capture_output=True, text=True)
    for pid in map(int, found.stdout.split()):
        if "http.server" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: sum(call.startswith("engine kv") for call in calls(tree)) >= 2 and is_up(port),
        seconds=90,
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143 and calls(tree)[-1] == "engine stopped"


def is_up(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200
    except OSError:
        return False


def test_an_engine_that_cannot_start_is_reported(tree, start):
    (tree / "calls.broken").touch()
    port = str(free_port())
    process = start(ENGINE_PORTS=port)
    assert process.wait(30) == 2
    said = process.stderr.read()
    assert f"the engine on port {port} has ended; its log says why" in said
    assert "no such flag" in (tree / f"outputs/llm/accm-mini/engine-{port}.log").read_text()
    assert not any(call.startswith("front") for call in calls(tree))


@pytest.mark.parametrize("name", ["PORT", "ENGINE_PORTS"])
def test_a_port_in_use(tree, start, name):
    """Else another server there would be taken for the engine."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        process = start(**({"ENGINE_PORTS": str(free_port())} | {name: port}))
        assert process.wait(10) == 2
    assert f"error: port {port} is in use: stop what runs there" in process.stderr.read()
    assert calls(tree) == []


def test_a_wrong_setting(tree, start):
    process = start(PORT="http")
    assert process.wait(10) == 2
    assert process.stderr.read() == "error: PORT is 'http': say a number from 1 on\n"
    assert calls(tree) == []
