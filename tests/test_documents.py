"""Every command of the README and the docs: its flags are known, and something runs it.

The documents' blocks of bash are run by bash in a copy of the scripts, where the programs of .venv
write down what they are called with. Each of these calls is then parsed by its own command.
"""

import csv
import importlib
import importlib.util
import inspect
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from torch.distributed.run import parse_args as parse_torchrun

from llava.command import COMMANDS
from llava.files import write_json
from llava.mini.benchmarks import write_benchmarks
from llava.train import cost as train_cost
from llava.utils import cli as command
from tests.load import __main__ as web_load
from tests.load.process import free_port

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("checkpoints/accm-mini*/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
# Commands in a line of text: `bash scripts/test.sh -k beam`, but not `python -m ... --compile`.
STARTS = r"\.venv/bin/|python -m |bash scripts/|pip install |lmms-eval "
INLINE = re.compile(rf"`((?:[A-Z_]+=\S+ )*(?:{STARTS})[^`]*)`")
PLACEHOLDER = re.compile(r"\.\.\.|\bSTAGE\b")
OWN = ("llava", "tests")  # packages whose flags are looked at
PROGRAMS = ("accm", "python", "mkdocs", "lmms-eval", "pip", "chromium")
# A program that writes down its words. To a script that asks which data are there it says: all.
RECORDER = """#!/bin/sh
printf '%s\\037' "${0##*/}" "$@" >> "$CALLS"
printf '\\036' >> "$CALLS"
case "$*" in
*"llava.benchmarks "*) printf 'ok   %s: all\\n' mme mmbench pope mmvp seed gqa flickr ;;
esac
"""
SCRIPT = re.compile(r"\bscripts/[\w./]+\.(?:sh|py)\b")
# What runs each program of the documents: a test of this file, another file of tests, or a script
# that is run itself.
RUN_BY = {
    "scripts/gpu_check.sh": "tests/test_gpu_check.py",
    "scripts.gpu": "scripts/gpu_check.sh",
    "llava": "tests/test_command.py",
    "llava.benchmarks download": "tests/benchmarks/test_download.py",
    "llava.benchmarks verify": "tests/benchmarks/test_download.py",
    "llava.checkpoints convert": "tests/checkpoints/test_checkpoints.py",
    "llava.checkpoints download": "tests/checkpoints/test_download.py",
    "llava.checkpoints verify": "tests/checkpoints/test_checkpoints.py",
    "llava.completion": "tests/test_completion.py",
    "llava.eval.answer": "tests/eval/test_run.py",
    "llava.eval.bench": "tests/eval/test_bench.py",
    "llava.eval.bench.batches": "tests/eval/test_bench.py",
    "llava.eval.model_vqa_loader": "tests/eval/test_llava_commands.py",
    "llava.eval.report": "tests/eval/report/test_page.py",
    "llava.eval.run_llava": "tests/eval/test_run_llava.py",
    "llava.eval.score": "tests/eval/test_mmvp.py",
    "llava.eval.sweep": "tests/eval/test_sweep.py",
    "llava.eval.trace": "tests/eval/test_trace.py",
    "llava.mini.by_budget": "tests/mini/test_by_budget.py",
    "llava.mini.make_data": "tests/mini/test_make_data.py",
    "llava.mini.make_model": "tests/conftest.py",
    "llava.mini.make_next": "tests/mini/test_make_next.py",
    "llava.mini.measure": "tests/mini/test_measure.py",
    "llava.mini.measure_graphs": "tests/mini/test_graphs.py",
    "llava.mini.result": "test_the_quickstart",
    "llava.serve.cli": "tests/serve/test_cli.py",
    "llava.serve.openai": "tests/serve/test_openai_command.py",
    "llava.serve.web": "test_the_web_page_is_served_and_bears_visitors",
    "llava.train.cost": "test_the_cost_of_training_is_printed",
    "llava.train.train_caption": "tests/train/test_train_caption.py",
    "llava.train.train_clip": "tests/train/test_mini_model.py",
    "llava.train.train_compensation": "tests/train/test_train_compensation.py",
    "llava.train.train_llava": "tests/train/test_mini_model.py",
    "llava.train.train_long_clip": "tests/train/test_mini_model.py",
    "llava.train.train_projector": "tests/train/test_mini_model.py",
    "llava.train.train_scene_graph": "tests/train/test_train_scene_graph.py",
    "llava.train.train_selector": "tests/train/test_train_selector.py",
    "lmms-eval": "tests/lmms/test_lmms_eval.py",
    "mkdocs build": "tests/test_site.py",
    "pip install": "scripts/setup.sh",
    "pytest": "scripts/test.sh",
    "scripts/execute_tour.py": "tests/test_tour.py",
    "scripts/make_figures.py": "tests/test_figures.py",
    "scripts/quickstart.sh": "test_the_quickstart",
    "scripts/reproduce.sh": "tests/test_reproduce.py",
    "scripts/serve_vllm.sh": "tests/test_serve_vllm.py",
    "scripts/setup.sh": "tests/test_setup.py",
    "scripts/test.sh": ".ci/run",
    "scripts/v1_5/eval/all.sh": "test_benchmarks_by_script",
    "scripts/v1_5/eval/gqa.sh": "test_benchmarks_by_script",
    "scripts/v1_5/eval/pope.sh": "test_benchmarks_by_script",
    "scripts/v1_5/compare.sh": "test_a_comparison",
    "scripts/v1_5/train/mini.sh": "tests/train/test_scripts.py",
    "scripts/v1_5/train/mini_next.sh": "tests/train/test_scripts.py",
    "tests.load": "test_the_web_page_is_served_and_bears_visitors",
    "tests.load.api_crowd": "tests/serve/test_openai_load.py",
    "tests.load.same_answers": "tests/serve/test_openai_load.py",
    "tests.load.attack": "tests/serve/test_web_gate.py",
    "tests.load.stress_pairs": "tests/train/test_stage.py",
    "vllm.entrypoints.openai.api_server": "scripts/serve_vllm.sh",
}


def blocks(document):
    """The pieces of bash of a document; a command in a line of text is one too."""
    text = document.read_text("utf-8")
    fenced = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = re.sub(r"```.*?```", "", text, flags=re.S)
    inline = [" ".join(code.split()) for code in INLINE.findall(lines)]
    return [*fenced, *(code for code in inline if not PLACEHOLDER.search(code))]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The scripts beside a .venv whose programs write down their calls."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / "scripts" / "setup.sh").write_text("exit 0\n")
    for environment in (".venv", ".venv-vllm"):
        programs = folder / environment / "bin"
        programs.mkdir(parents=True)
        for name in PROGRAMS:
            (programs / name).write_text(RECORDER)
            (programs / name).chmod(0o755)
    (folder / ".venv-vllm" / "installed").touch()
    return folder


@pytest.fixture(scope="module")
def calls(tree):
    """What the blocks of all documents call: words of a program, with where they stand."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(document):
            found += [(document, as_module(words)) for words in run_block(tree, block)]
    return found


def as_module(words):
    """A call of accm as one of the module that it hands on to."""
    program, *rest = words
    if program != "accm":
        return words
    if rest[0] not in COMMANDS:
        return ["python", "-m", "llava", *rest]
    return ["python", "-m", COMMANDS[rest[0]].module.removesuffix(".__main__"), *rest[1:]]


def run_block(tree, block, settings=None):
    """Runs a block, with settings from the environment; gives the calls of programs."""
    record = tree / "calls"
    record.write_text("")
    programs = tree / ".venv" / "bin"
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "CALLS": str(record)}
    environment |= {"R": "0", "HOST": "localhost"}  # of docs/scaling.md
    environment |= {"PORT": str(free_port()), "ENGINE_PORTS": str(free_port())}
    environment |= settings or {}
    done = subprocess.run(
        ["bash", "-euc", block], cwd=tree, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, (block, done.stderr)
    return [call.split("\037")[:-1] for call in record.read_text().split("\036")[:-1]]


def command_module(words):
    """The module that words behind a Python run, and its own words; torchrun's are checked."""
    assert words[0] == "-m", words
    if words[1] == "torch.distributed.run":
        launched = parse_torchrun(words[2:])
        assert launched.module
        return launched.training_script, launched.training_script_args
    return words[1], words[2:]


def main_of(module):
    """The main function of ``python -m MODULE``, and the module that it is in."""
    found = importlib.util.find_spec(module)
    assert found is not None, f"there is no module {module}"
    is_package = found.submodule_search_locations is not None
    program = importlib.import_module(f"{module}.__main__" if is_package else module)
    return program.main, program


def parse(module, words, monkeypatch):
    """Runs a command up to its work, which is left out: the flags are parsed by itself."""
    main, program = main_of(module)
    if not inspect.signature(main).parameters:
        assert not words, f"{module} has no flags"
        return
    for place in (command, program):
        if hasattr(place, "guard"):
            monkeypatch.setattr(place, "guard", lambda *work: 0)
    try:
        assert main(words) == 0
    except SystemExit as end:
        assert end.code == 0, (module, words)


def test_flags_are_known(calls, monkeypatch, capsys):
    """Of every command that a document has, and of those that its scripts run."""
    seen = set()
    for document, (program, *words) in calls:
        if program == "python" and words[:1] == ["-m"] and tuple(words) not in seen:
            seen.add(tuple(words))
            module, flags = command_module(words)
            if module.split(".")[0] in OWN:
                parse(module, flags, monkeypatch)
    assert len(seen) > 40


@pytest.mark.parametrize(
    "words",
    [
        ["llava.eval.trace", "--colour", "blue"],
        ["llava.eval.answer", "pope", "--model", "checkpoints/accm-mini"],
        ["llava.eval.nothing"],
        ["llava.checkpoints", "verify", "--fast"],
    ],
    ids=lambda words: words[0],
)
def test_a_wrong_flag_would_be_found(words, monkeypatch, capsys):
    with pytest.raises(AssertionError):
        parse(words[0], words[1:], monkeypatch)


# Flags of other programs.
FOREIGN = {
    *("--batch_size", "--device", "--include_path", "--log_samples", "--model", "--model_args"),
    *("--use_cache", "--ntasks-per-node", "--node_rank", "--num_processes"),
    "--gpu-memory-utilization",
}


def test_flags_in_the_text_are_known(capsys):
    """Of some command of the documents, or of another program."""
    modules = [name.split() for name in RUN_BY if name.split(".")[0] in OWN]
    modules += [["llava.eval.answer", "pope"], ["llava.eval.score", "pope"]]
    for module, *words in modules:
        main, _ = main_of(module)
        if inspect.signature(main).parameters:
            with suppress(SystemExit):
                main([*words, "--help"])
    known = set(re.findall(r"--[a-z][\w-]+", capsys.readouterr().out)) | FOREIGN
    for script in SCRIPT.findall("\n".join(RUN_BY)):
        known |= set(re.findall(r"--[a-z][\w-]+", (ROOT / script).read_text("utf-8")))
    for document in DOCUMENTS:
        for code in re.findall(r"`([^`\n]+)`", document.read_text("utf-8")):
            assert set(re.findall(r"(?<!\S)--[a-z][\w-]+", code)) <= known, (document, code)


SETTINGS = re.compile(r"^((?:[A-Z_]+=\S+ +)+)bash (scripts/\S+\.sh)", re.M)


def test_settings_are_read_by_the_scripts():
    """By the script itself, or by one beside it that it calls."""
    found = 0
    for document in DOCUMENTS:
        for settings, script in SETTINGS.findall("\n".join(blocks(document))):
            texts = [path.read_text("utf-8") for path in (ROOT / script).parent.glob("*.sh")]
            for name in re.findall(r"([A-Z_]+)=", settings):
                assert any(re.search(rf"\$\{{{name}:-", text) for text in texts), (document, name)
                found += 1
    assert found > 5


def program_of(words):
    """What a call is known by in RUN_BY: a module, with what it is to do, or a program."""
    program, *rest = words
    if program == "python" and rest[0] == "-m":
        module, flags = command_module(rest)
        if module == "llava.checkpoints" or module == "llava.benchmarks":
            return f"{module} {flags[0]}"
        return module
    if program == "python":
        return None if rest[0] == "-c" else rest[0]
    return program if rest[0].startswith("-") else f"{program} {rest[0]}"


# A script ends it with the front, which here ends at once: at times before its call is seen.
BESIDE = {"vllm.entrypoints.openai.api_server"}


def test_every_command_is_run_somewhere(calls):
    """And RUN_BY names none that no document has."""
    found = {program_of(words) for _, words in calls} - {None}
    text = "\n".join(block for document in DOCUMENTS for block in blocks(document))
    found |= set(SCRIPT.findall(text))
    assert found | BESIDE == set(RUN_BY)
    for program, place in RUN_BY.items():
        if place.startswith("test_"):
            assert callable(globals().get(place)), (program, place)
            continue
        text = (ROOT / place).read_text("utf-8")
        assert is_named(program, text), (program, place)
        assert not place.endswith(".py") or re.search(r"main\(|subprocess", text), (program, place)


def is_named(program, text):
    """Whether a file names a program: a module by its import, a script by its file."""
    name, *words = program.split()
    if name.split(".")[0] in OWN:
        room, _, module = name.rpartition(".")
        imports = rf"from {re.escape(room)} import (?:\([^)]*|[^\n]*)\b{module}\b"
        found = re.search(rf"{re.escape(name)}\b|{imports}", text)
    else:
        found = name.rpartition("/")[2].removesuffix(".py") in text
    return bool(found) and all(re.search(rf"\b{word}\b", text) for word in words)


def test_python_is_that_of_the_readme():
    """Which is run by tests/serve/test_accm.py."""
    code = re.compile(r"```python\n.*?```", re.S)
    (of_the_readme,) = code.findall((ROOT / "README.md").read_text("utf-8"))
    for document in DOCUMENTS:
        if document.name in ("methods.md", "serving.md"):
            continue  # run by tests/test_methods.py and tests/serve/test_openai_load.py
        assert set(code.findall(document.read_text("utf-8"))) <= {of_the_readme}, document


def test_extras_that_are_to_be_installed_exist(calls):
    """By pip, or by the set-up in a block or a line."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = [
        extra
        for _, words in calls
        if words[:2] == ["pip", "install"]
        for extra in re.findall(r"[a-z]+", "".join(re.findall(r"\[(.*)\]", words[-1])))
    ]
    text = "\n".join(block for document in DOCUMENTS for block in blocks(document))
    extras += re.findall(r"scripts/setup\.sh ([a-z]+)", text)
    assert {"lmms", "web", "train", "notebook"} <= set(extras)
    for extra in extras:
        assert re.search(rf"^{extra} = \[", project, re.M), extra


# What no other test runs --------------------------------------------------------------------------


def test_the_web_page_is_served_and_bears_visitors(capsys):
    """One command serves it as a process, the other asks it."""
    few = "--visitors 2 --questions 2 --requests 6 --malformed 4 --device cpu"
    assert web_load.main(few.split()) == 0
    assert "BAD" not in capsys.readouterr().out


def test_the_cost_of_training_is_printed(capsys):
    assert train_cost.main() == 0
    assert "train_compensation" in capsys.readouterr().out


# What two scripts call, called in this process on the mini model:
SIZES = {"mme": 2, "mmbench": 8, "pope": 1, "mmvp": 2, "seed": 12, "gqa": 8, "flickr": 2}


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """Where the commands work: the mini model, and data as the quickstart draws them, but few."""
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    data = tmp_path / "playground" / "data" / "mini" / "eval"
    data.mkdir(parents=True)
    write_benchmarks(data, seed=0, split="test", sizes=SIZES)
    write_json(data / "made_with.json", {"seed": 0, "split": "test"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def do(call, *more):
    """Runs a recorded call here; what it prints is caught by pytest."""
    module, words = command_module(call[1:])
    main, _ = main_of(module)
    assert main([*words, *more]) == 0, call


def test_the_quickstart(tree, working_folder, capsys):
    """Two benchmarks at one budget: its table, its picture and, last of all, its sentence."""
    settings = {"BUDGETS": "9", "NPROC": "1"}
    data, sweep, result = run_block(tree, "bash scripts/quickstart.sh", settings)
    folder = working_folder / "outputs" / "quickstart"
    folder.mkdir(parents=True)
    do(data)
    do(sweep, "--benchmarks", "pope", "gqa")
    printed = capsys.readouterr().out
    assert "| accm-mini | accm     |      9 |" in printed
    do(result)
    last = capsys.readouterr().out.splitlines()[-1]
    said = (
        r"With 9 of 144 tokens the model reaches (\d+)% of its score with all tokens; with captions"
    )
    match = re.fullmatch(rf"{said} (\d+)%; report: outputs/quickstart/report/report.html", last)
    assert match is not None, last
    with (folder / "report" / "report.csv").open() as file:
        mean = {r["method"]: r for r in csv.DictReader(file) if r["benchmark"] == "mean"}
    shares = [round(float(mean[m]["mean_percent_of_full"])) for m in ("prune", "accm")]
    assert [int(share) for share in match.groups()] == shares
    assert float(mean["accm"]["seconds_per_question"]) > 0
    for file in ("report/report.html", "example.png"):
        assert (folder / file).is_file()


def test_benchmarks_by_script(tree, working_folder, capsys):
    settings = {
        "MODEL_PATH": "checkpoints/accm-mini",
        "DATA_ROOT": "playground/data/mini/eval",
        "VISUAL_TOKEN_NUM": "9",
        "BENCHMARKS": "pope gqa",
    }
    for call in run_block(tree, "bash scripts/v1_5/eval/all.sh", settings):
        do(call)
    out = capsys.readouterr().out
    assert "POPE: " in out and "GQA: " in out
    for name in ("pope", "gqa"):
        assert (working_folder / "outputs" / name / "accm-mini-9.json").is_file()


def test_a_comparison(tree, working_folder, capsys):
    """Of ACCM, two controls and both ends, on two benchmarks: the report ranks them."""
    settings = {"PRUNERS": "none zero random uniform", "BUDGETS": "9", "NPROC": "1", "LIMIT": "4"}
    settings |= {"BENCHMARKS": "pope gqa", "COSTS": "1"}
    data, sweep = run_block(tree, "bash scripts/v1_5/compare.sh --mini", settings)
    assert data[2] == "llava.mini.make_data"
    do(sweep)
    out = " ".join(capsys.readouterr().out.split())
    assert "| accm-mini | uniform (limited) | 9 |" in out
    folder = working_folder / "outputs" / "compare-mini"
    with (folder / "report" / "report.csv").open() as file:
        mean = {row["method"]: row for row in csv.DictReader(file) if row["benchmark"] == "mean"}
    assert list(mean) == ["full", "accm", "random", "uniform", "no image"]
    assert mean["accm"]["points_to_accm"] == "" != mean["random"]["points_to_accm"]
    shares = {n: float(mean[n]["mean_percent_of_full"]) for n in ("accm", "random", "uniform")}
    for name, share in shares.items():
        if share == max(shares.values()):
            continue
        less = share - max(shares.values())
        assert float(mean[name]["points_to_best"]) == pytest.approx(less)
    for row in mean.values():  # every method was measured, the whole image costs the most
        assert float(row["seconds_alone"]) > 0 and float(row["operations_counted"]) > 0
        assert float(row["tokens_read_by_a_layer"]) == float(row["visual_tokens"])
    operations = {name: float(row["operations_by_formula"]) for name, row in mean.items()}
    assert float(mean["full"]["operations_counted"]) == pytest.approx(operations["full"], rel=0.05)
    assert operations["random"] == operations["uniform"] < operations["full"]
    for file in ("report.html", "report.md"):
        assert "Methods by budget" in (folder / "report" / file).read_text("utf-8")
