"""The README and the scripts do what they say."""

import json
import os
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from llava.model.loading.parts import _USUAL_NAMES

ROOT = Path(__file__).parents[1]
CHECKPOINTS = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
DOCUMENTS += [ROOT / folder / "README.md" for folder in ("checkpoints", "playground/data")]
SCRIPTS = sorted(ROOT.glob("scripts/**/*.sh")) + [ROOT / ".ci" / "run"]


def test_the_documents_name_every_part_where_it_is_looked_for():
    for name, repository in _USUAL_NAMES.values():
        assert f"checkpoints/{name}" in CHECKPOINTS
        assert repository in CHECKPOINTS


def test_links_in_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text("utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), (document, target)


def test_the_numbers_of_the_readme_are_those_that_were_measured():
    """Seconds of the last run, scores of the mini model."""
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*) \|$", (ROOT / "docs/performance.md").read_text("utf-8"), re.M)
    hf, accm = (
        next(cells for cells in (row.split(" | ") for row in rows) if cells[0].startswith(name))
        for name in ("hf", "accm, K = 36")
    )
    seconds = [float(cells[2].replace(",", "")) / 1000 for cells in (accm, hf)]
    assert "{:.1f} s instead of {:.1f} s".format(*seconds) in readme
    assert f"{float(accm[4]):.1f} times as fast" in readme
    scores = json.loads((ROOT / "checkpoints/accm-mini/scores.json").read_text("utf-8"))
    means = scores["mean"]["scores"]
    shown = [
        means[name]["value"] for name in ("full", "nothing", "pruned", "accm", "best candidate")
    ]
    assert f"| {' | '.join(f'{value:.3f}' for value in shown)} |" in readme


def test_the_third_line_of_the_readme_is_its_status():
    first, blank, third, *_ = (ROOT / "README.md").read_text("utf-8").split("\n")
    assert first.startswith("# ") and not blank and third.startswith("**Status:** ")


def test_every_speed_of_the_readme_says_of_what():
    """Weights, shapes and machine in the same sentence."""
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    claims = [
        sentence
        for sentence in re.split(r"(?<=[.!?])\s", text)
        if re.search(r"times as fast|\d s instead|faster|speed-?up", sentence)
    ]
    assert claims
    for claim in claims:
        assert re.search(r"random weights|real weights|small model", claim), claim
        assert re.search(r"shapes", claim) and re.search(r"CPU cores|GPU", claim), claim


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_bash(script):
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert os.access(script, os.X_OK)


def test_the_mmvp_script(tmp_path, tiny_flags, monkeypatch, capsys):
    """On two questions, from another working directory, with a budget from the environment."""
    data = tmp_path / "data"
    (data / "MMVP Images").mkdir(parents=True)
    for number in (1, 2):
        shutil.copy(ROOT / "images" / "example.png", data / "MMVP Images" / f"{number}.jpg")
    (data / "Questions.csv").write_text(
        "Index,Question,Options,Correct Answer\n"
        "1,Red?,(a) Yes (b) No,(a)\n"
        "2,Red?,(a) Yes (b) No,(b)\n"
    )
    model_path, *flags = tiny_flags[1:]
    program = tmp_path / "python"  # writes down what it is called with, and where
    program.write_text('#!/bin/sh\nprintf "%s\\037" "$PWD" "$@" >>"$CALLS"; echo >>"$CALLS"\n')
    program.chmod(0o700)
    settings = {
        "MODEL_PATH": model_path,
        "DATA_DIR": str(data),
        "ANSWERS_FILE": str(tmp_path / "answers.jsonl"),
        "VISUAL_TOKEN_NUM": "20",
        "PYTHON": str(program),
        "CALLS": str(tmp_path / "calls"),
    }
    command = ["bash", str(ROOT / "scripts/v1_5/eval/mmvp.sh"), *flags]
    subprocess.run(command, env=os.environ | settings, cwd=tmp_path, check=True)
    for call in (tmp_path / "calls").read_text().splitlines():
        place, dash, module, *words = call.split("\037")[:-1]
        monkeypatch.chdir(place)
        assert dash == "-m" and import_module(module).main(words) == 0
    said = capsys.readouterr().out
    assert "2 of 2 questions answered" in said
    assert "MMVP: pair accuracy" in said
    assert (tmp_path / "answers.json").is_file()
