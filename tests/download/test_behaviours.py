"""Whatever a server does, the right file comes, or one line that says why not."""

import base64
import dataclasses
import io
import re
import zipfile
from functools import partial

import numpy as np
import pytest
from PIL import Image

from llava.benchmarks.__main__ import main as benchmarks
from llava.benchmarks.catalog import KNOWN
from llava.benchmarks.sources import WebFile, ZipParts
from llava.checkpoints.__main__ import main as checkpoints
from llava.checkpoints.download import PUBLISHED
from tests.helpers.server_behaviours import BEHAVIOURS, PAGE

TABLE = "mmbench_dev_20230712.tsv"
GPT2 = PUBLISHED["gpt2"].repository


def table() -> bytes:
    """MMBench's table with one question."""
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")).save(
        picture, "PNG"
    )
    head = "index question hint A B C D answer category image source l2-category comment split"
    cells = ["1", "What?", "", "a", "b", "c", "d", "A", "x", "", "x", "x", "", "dev"]
    cells[9] = base64.b64encode(picture.getvalue()).decode()
    return "\n".join("\t".join(line) for line in (head.split(), cells, [])).encode()


CONTENT = table()  # some 16 kB


@pytest.fixture
def doors(web):
    """By the name of a door: the path that it asks for, the command, and the file it fetches."""
    files = {"config.json": b"{}", "vocab.json": CONTENT, "merges.txt": b"#version"}
    # The list of files is longer than what the behaviours cut off.
    hub = web.add_repository(GPT2, files | {f"README-{n}": b"" for n in range(100)})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("before", bytes(100_000))
        archive.writestr(TABLE, CONTENT)
        archive.writestr("behind", bytes(100_000))
    web.files |= {f"/{TABLE}": CONTENT, "/all.zip": packed.getvalue(), "/page": PAGE}
    sources = {
        "web": WebFile(f"{web.url}/{TABLE}", TABLE, KNOWN["mmbench"].sources[0].begins),
        "zip": ZipParts(f"{web.url}/all.zip", f"({re.escape(TABLE)})", ""),
    }

    def gpt2(network, folder):
        return checkpoints(["download", "gpt2", "--checkpoints-root", str(folder)], network)

    def mmbench(source, network, folder):
        record = dataclasses.replace(KNOWN["mmbench"], sources=(source,), questions={"": 1})
        words = ["download", "mmbench", "--data-root", str(folder)]
        return benchmarks(words, {"mmbench": record}, network)

    return {
        "hub": (f"{hub}/vocab.json", gpt2, "gpt2/vocab.json"),
        "list": (f"/api/models/{GPT2}", gpt2, "gpt2/vocab.json"),
        "web": (f"/{TABLE}", partial(mmbench, sources["web"]), f"mmbench/{TABLE}"),
        "zip": ("/all.zip", partial(mmbench, sources["zip"]), f"mmbench/{TABLE}"),
    }


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_right_file_or_one_line(web, network, doors, tmp_path, capsys, name):
    case = BEHAVIOURS[name]
    impatient = dataclasses.replace(
        network,
        timeout=case.timeout,
        tries=3 if case.timeout > 1 else 2,
        wait=0.001,
        most_unsaid=2**20,
    )
    for door in case.doors.split():
        path, command, brings = doors[door]
        web.requests.clear()
        web.behaviours = {path: case.play}
        folder = tmp_path / door
        status = command(impatient, folder)
        done = capsys.readouterr()
        file, out = folder / brings, f"at {door}:\n{done.out}{done.err}"
        if door in case.right.split():
            assert status == 0, out
            assert file.read_bytes() == CONTENT, out
            left = {"".join(path.suffixes) for path in folder.rglob("*")}
            assert left <= {"", ".json", ".txt", ".tsv"}, out
        else:
            assert status in (1, 2) and not file.exists(), out
            lines = [line for line in out.splitlines() if line.startswith(("BAD ", "error: "))]
            assert len(lines) == 1 and len(lines[0]) < 1000 and "Traceback" not in out, out
            assert re.search(case.says, lines[0]), out
