"""Sweeps against the single commands, on two small benchmarks in their own formats."""

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from llava.errors import UserError
from llava.eval import answer, score, sweep
from llava.eval.configurations import SweepArguments, choose_configurations
from llava.eval.journal import Journal
from llava.model.backbones.registry import FAMILIES
from llava.model.builder import with_compensation
from llava.model.loading.llava_config import LLAVA15
from llava.model.token_pruning import registry
from llava.utils.flags import FlagParser
from tests.helpers.processes import run_together

MMVP_ROWS = [
    ["1", "Is it open?", "(a) Open (b) Closed", "(a)"],
    ["2", "Is it open?", "(a) Open (b) Closed", "(b)"],
    ["3", "How many?", "(a) One, or so (b) Two", "(b)"],
    ["4", "How many?", "(a) One (b) Two", "(a)"],
]
COMBINED = {
    "accm+-30": ["--visual-token-num", "30", "--pruner", "mmtok", "--compensation", "merge"]
}
# File name of a configuration -> flags of the single command.
SINGLE = {
    "full": ["--visual-token-num", "576", "--no-compensation"],
    "prune-30": ["--visual-token-num", "30", "--no-compensation"],
    "accm-30": ["--visual-token-num", "30"],
    "no-image": ["--visual-token-num", "576", "--no-compensation", "--no-image"],
}


def draw(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((40, 30), 20 * number).convert("RGB").save(path)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for number in range(1, 5):
        draw(root / "mmvp" / "MMVP Images" / f"{number}.jpg", number)
    with (root / "mmvp" / "Questions.csv").open("w", newline="") as file:
        header = ["Index", "Question", "Options", "Correct Answer"]
        csv.writer(file).writerows([header, *MMVP_ROWS])
    (root / "pope" / "coco").mkdir(parents=True)
    draw(root / "pope" / "val2014" / "1.jpg", 5)
    for category, thing in (("adversarial", "dog"), ("popular", "cat"), ("random", "red car")):
        lines = [
            {"image": "1.jpg", "text": f"Is there {word} {thing} in it?", "label": label}
            for word, label in (("a", "yes"), ("a second", "no"))
        ]
        path = root / "pope" / "coco" / f"coco_pope_{category}.json"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def shorten_answers(patch):
    """The tiny model never stops by itself."""
    for module in ("llava_files", "mmvp"):
        patch.setattr(f"llava.eval.benchmarks.{module}.MAX_NEW_TOKENS", 4)


@pytest.fixture(autouse=True)
def short_answers(monkeypatch):
    shorten_answers(monkeypatch)


def sweep_flags(tiny_flags, data_root):
    words = f"--data-root {data_root} --batch-size 3 --benchmarks pope mmvp --budgets 30 30"
    return [*tiny_flags, *words.split(), *"--methods full prune accm no-image".split()]


@pytest.fixture
def flags(tiny_flags, data_root):
    return sweep_flags(tiny_flags, data_root)


@pytest.fixture
def lend_model(monkeypatch, model):
    """Spares the loading."""
    monkeypatch.setattr("llava.eval.caches.load_from_arguments", lambda args: model)


def files(folder):
    """What a run left, by name; without what names the folder."""
    found = {}
    for path in filter(Path.is_file, sorted(folder.rglob("*.json*"))):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json" and path.name != "settings.json":
            found[name] = json.loads(path.read_text()) | {"answers_file": None}
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def finished_sweep(tiny_flags, data_root, tmp_path_factory, model):
    """The folder of a sweep that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        shorten_answers(patch)
        patch.setattr("llava.eval.caches.load_from_arguments", lambda args: model)
        assert sweep.main([*sweep_flags(tiny_flags, data_root), "--output-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def undisturbed(finished_sweep, tmp_path, lend_model):
    """Its files; tmp_path / "undisturbed" is a copy of the folder, to be changed."""
    return files(shutil.copytree(finished_sweep, tmp_path / "undisturbed"))


def test_a_sweep_gives_what_the_single_commands_give(
    flags, tiny_flags, data_root, tmp_path, capsys
):
    folder = tmp_path / "sweep"
    methods = ["--methods", *sweep.METHODS]
    assert sweep.main([*flags, *methods, "--output-dir", str(folder)]) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert "| MMVP pairs, % |" in table
    assert "| llava-v1.5-tiny | accm | 30 |" in table
    assert "| llava-v1.5-tiny | no image | 0 |" in table
    for benchmark in ("pope", "mmvp"):
        for name, single in (SINGLE | COMBINED).items():
            path = tmp_path / "single" / benchmark / f"llava-v1.5-tiny-{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = ["--data-root", str(data_root), "--answers-file", str(path)]
            flags = [*tiny_flags, *single, *data, "--batch-size", "3"]
            assert answer.main([benchmark, *flags]) == 0
            assert score.main([benchmark, *data, "--json", str(path.with_suffix(".json"))]) == 0
    assert len(files(folder)) == 2 * 5 * 4  # answers, scores, journal and settings of each
    assert files(folder) == files(tmp_path / "single")


def test_two_processes_give_what_one_gives(flags, tmp_path, monkeypatch):
    """Of a limited sweep, which shares more; test_run has whole runs of several processes."""
    monkeypatch.undo()  # the other process writes answers of full length
    flags = [*flags, "--limit", "4", "--benchmarks", "pope", "--methods", "full", "prune"]
    log = tmp_path / "log"
    words = [*flags, "--output-dir", str(tmp_path / "two")]
    assert run_together(2, "llava.eval.sweep", words, log) == [0, 0], log.read_text()
    said = " ".join(log.read_text().split())
    assert said.count("| llava-v1.5-tiny | prune (limited) | 30 |") == 1
    assert sweep.main([*flags, "--output-dir", str(tmp_path / "one")]) == 0
    answers = [path.relative_to(tmp_path / "one") for path in tmp_path.glob("one/pope/*.jsonl")]
    assert len(answers) == 2
    for name in answers:
        assert (tmp_path / "one" / name).read_bytes().count(b"\n") == 4
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_limited_sweep_stands_beside_a_whole_one(
    flags, tmp_path, monkeypatch, undisturbed, capsys
):
    """Of MMVP's four questions three are asked for, and so both pairs; of POPE's six three."""
    folder = tmp_path / "undisturbed"
    limited = [*flags, "--limit", "3", "--output-dir", str(folder)]
    report = tmp_path / "report"
    append = Journal.append
    left = iter(range(5))

    def interrupted(self, outcome):
        if next(left, None) is None:
            raise KeyboardInterrupt
        append(self, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted)
        assert sweep.main(limited) == 130
    capsys.readouterr()
    assert sweep.main([*limited, "--report", str(report)]) == 0
    said = capsys.readouterr()
    assert "prune-30-limit3.jsonl: 2 of 3 questions answered before; going on" in said.err
    # The first of four was scored before the interruption.
    assert said.out.count("limited: 3 of 6 questions were asked (--limit 3)") == 3
    found = files(folder)
    assert {name: found[name] for name in undisturbed} == undisturbed
    assert len(found) == 2 * len(undisturbed)
    for name in SINGLE:
        for benchmark, count in (("pope", 3), ("mmvp", 4)):
            path = folder / benchmark / f"llava-v1.5-tiny-{name}-limit3.jsonl"
            whole = undisturbed[f"{benchmark}/llava-v1.5-tiny-{name}.jsonl"].splitlines()
            assert path.read_bytes().splitlines() == whole[:count]
            made = json.loads(path.with_suffix(".json").read_text())
            assert (made["limit"], made["settings"]["limit"], made["missing"]) == (3, 3, [])
            assert len(made["questions"]) == count and made["allow_missing"] is False
            assert undisturbed[f"{benchmark}/llava-v1.5-tiny-{name}.json"]["limit"] is None
    for text in (
        said.out,
        (report / "report.md").read_text(),
        (report / "report.html").read_text(),
    ):
        assert "accm (limited)" in text and "lenient" not in text
        assert "POPE, MMVP (limited): only the first 3 questions were asked" in text
    assert sweep.main([*limited, "--limit", "0"]) == 2
    assert "--limit is 0" in capsys.readouterr().err


@pytest.mark.parametrize("lines", [1, 17, 30])
def test_an_interrupted_sweep_goes_on_where_it_stopped(
    flags, tmp_path, monkeypatch, undisturbed, lines
):
    folder = str(tmp_path / "again")
    append = Journal.append
    left = iter(range(lines))

    def interrupted(self, outcome):
        if next(left, None) is None:
            raise KeyboardInterrupt
        append(self, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted)
        assert sweep.main([*flags, "--output-dir", folder]) == 130
    assert sweep.main([*flags, "--output-dir", folder]) == 0
    assert files(tmp_path / "again") == undisturbed


def test_a_finished_sweep_is_not_done_again(flags, tmp_path, monkeypatch, capsys, undisturbed):
    folder = tmp_path / "undisturbed"
    output = ["--output-dir", str(folder), "--report", str(tmp_path / "report")]

    def never(*args):
        raise AssertionError("loaded or scored again")

    monkeypatch.setattr("llava.eval.caches.load_from_arguments", never)
    monkeypatch.setattr("llava.eval.sweep.score", never)
    for _ in range(2):
        assert sweep.main([*flags, *output]) == 0
        assert files(folder) == undisturbed
        assert "| llava-v1.5-tiny | accm" in capsys.readouterr().out
    assert (tmp_path / "report" / "report.html").is_file()


def test_answers_that_changed_are_scored_again(flags, tmp_path, undisturbed):
    folder = tmp_path / "undisturbed"
    path = folder / "mmvp" / "llava-v1.5-tiny-full.json"
    path.write_text(path.read_text().replace("main_number", "old"))
    stale = path.with_suffix(".jsonl").stat().st_mtime_ns - 1
    os.utime(path, ns=(stale, stale))
    assert sweep.main([*flags, "--output-dir", str(folder)]) == 0
    assert files(folder) == undisturbed


def test_a_benchmark_that_cannot_be_scored_does_not_stop_the_others(
    flags, data_root, tmp_path, capsys, lend_model
):
    image = data_root / "pope" / "val2014" / "1.jpg"
    whole = image.read_bytes()
    flags = [*flags, "--output-dir", str(tmp_path)]
    try:
        image.write_bytes(whole[:50])
        assert sweep.main(flags) == 1
    finally:
        image.write_bytes(whole)
    said = capsys.readouterr()
    assert (
        "6 questions failed" in said.err and "POPE" not in said.out and "| MMVP pairs" in said.out
    )
    assert sweep.main(flags) == 0
    assert "| POPE F1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong, says",
    [
        (["--benchmarks", "pope", "vqa"], "there is no benchmark 'vqa'"),
        (["--methods", "magic"], "there is no method 'magic'"),
        (["--budgets", "577"], "'577' is no budget; give numbers from 1 to 575"),
        (["--budgets", "576"], "--methods full takes them all"),
        (["--budgets", "0"], "'0' is no budget"),
        (["--budgets", "-3"], "'-3' is no budget"),
        (["--budgets", "1/0"], "'1/0' is no budget"),
        (["--budgets", "0/4"], "'0/4' is no budget"),
        (["--budgets", "4/4"], "'4/4' is no budget"),
        (["--budgets", "a/b"], "'a/b' is no budget"),
        (["--budgets", "1/4/2"], "'1/4/2' is no budget"),
        (["--budgets", "1.25"], "'1.25' is no budget"),
        (["--budgets", "all"], "--methods full takes them all"),
        (["--budgets", "100%"], "'100%' is no budget"),
        (["--visual-token-num", "36"], "a sweep has no --visual-token-num: use --budgets"),
        (["--no-compensation"], "a sweep has no --no-compensation: use --methods"),
        (["--no-image"], "a sweep has no --no-image"),
        (["--gpt2", "nowhere"], "nowhere"),
        (["--data-root", "nowhere"], "there is no nowhere/"),
        (["--batch-size", "0"], "at least 1"),
        (["--methods", "full"], "--budgets has no effect with --methods full"),
        (["--device-map", "auto"], "--device-map auto spreads the LLM over GPUs"),
    ],
)
def test_a_wrong_flag_is_one_clear_error(flags, tmp_path, capsys, wrong, says):
    status = sweep.main([*flags, "--output-dir", str(tmp_path), *wrong])
    said = capsys.readouterr().err
    assert status == 2
    assert says in said and said.count("error:") == 1 and "Traceback" not in said
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(
    "word, tokens",
    [
        ("1/4", 144),
        ("1/16", 36),
        ("18", 18),
        ("1/1000", 1),
        ("575", 575),
        ("11%", 63),
        ("0.25", 144),
    ],
)
def test_budgets(word, tokens):
    assert sweep.parse_budget(word, 576) == tokens
    assert sweep.parse_budget("1/8", 100) == 13  # 12.5: halves up


def test_a_share_keeps_its_name_only_where_images_differ_in_their_tokens(tiny_flags, monkeypatch):
    """Otherwise a sweep goes on with what one before had called by its number."""
    flags = [*tiny_flags, "--methods", "full", "prune", "--budgets", "1/9", "64", "11%"]
    args = FlagParser(SweepArguments, "sweep", "").read(flags)
    names = [one.name for one in choose_configurations(args)]
    assert names == ["full", "prune-64", "prune-63"]
    other = dataclasses.replace(FAMILIES[LLAVA15], images_differ=True)
    monkeypatch.setitem(FAMILIES, LLAVA15, other)
    found = choose_configurations(args)
    assert [one.name for one in found] == ["full", "prune-1of9", "prune-64", "prune-11pct"]
    assert [one.arguments(args).visual_token_num for one in found] == [576, "1/9", 64, "11%"]


def test_a_split_of_the_budget_is_for_what_has_one(tiny_flags, monkeypatch):
    words = "--view-split base-first --budgets 9 --pruners none pool"
    flags = [*tiny_flags, *words.split()]

    def chosen(*methods):
        args = FlagParser(SweepArguments, "sweep", "").read([*flags, "--methods", *methods])
        return {one.name: one.arguments(args).view_split for one in choose_configurations(args)}

    with pytest.raises(UserError, match="view_split base-first has no effect on a model that"):
        chosen("full", "prune")  # at once, and not after the answers of the first
    monkeypatch.setitem(FAMILIES, LLAVA15, dataclasses.replace(FAMILIES[LLAVA15], has_views=True))
    split = {"prune-9": "base-first", "pool-9": "base-first"}
    assert chosen("full", "prune", "no-image") == {"full": None, "no-image": None} | split
    del flags[-5:]  # from --budgets on: full alone has none
    with pytest.raises(UserError, match="--view-split has no effect with --methods full"):
        chosen("full")


def test_a_strict_sweep_does_not_serve_lenient_scores(
    flags, data_root, tmp_path, capsys, lend_model
):
    flags = [*flags, "--benchmarks", "mmvp", "--output-dir", str(tmp_path)]
    image = data_root / "mmvp" / "MMVP Images" / "1.jpg"
    whole = image.read_bytes()
    try:
        image.write_bytes(whole[:50])
        lenient = [*flags, "--allow-missing", "--report", str(tmp_path / "report")]
        assert sweep.main(lenient) == 1
        table = capsys.readouterr().out
        path = tmp_path / "mmvp" / "llava-v1.5-tiny-accm-30.json"
        made = json.loads(path.read_text())
        assert made["allow_missing"] is True and len(made["missing"]) == 1
        assert made["settings"]["dtype"] == "float32" and made["settings"]["device"] == "cpu"
        assert made["settings"]["visual_token_num"] == 30
        report = (tmp_path / "report" / "report.md").read_text()
        page = (tmp_path / "report" / "report.html").read_text()
        for text in (table, report, page):
            assert "accm (lenient)" in text and "1 of 4 questions have no answer" in text
            assert "Answered in float32 on cpu: all runs." in text
        assert "lenient: 1 questions without an answer count as wrong" in table
        assert sweep.main(flags) == 1
        said = capsys.readouterr()
        assert "MMVP" not in said.out and "1 of 4 questions have no answer" in said.err
    finally:
        image.write_bytes(whole)
    assert sweep.main(flags) == 0
    assert "(lenient)" not in capsys.readouterr().out
    assert json.loads(path.read_text())["allow_missing"] is False


@pytest.mark.parametrize("content", ["{", "[]", '{"data_dir": 7}'])
def test_a_damaged_score_file_is_made_again(flags, tmp_path, undisturbed, content):
    folder = tmp_path / "undisturbed"
    (folder / "mmvp" / "llava-v1.5-tiny-full.json").write_text(content)
    assert sweep.main([*flags, "--output-dir", str(folder)]) == 0
    assert files(folder) == undisturbed


def test_advice_names_what_a_sweep_has(flags, tmp_path, undisturbed, capsys):
    assert sweep.main([*flags, "--output-dir", str(tmp_path / "undisturbed"), "--seed", "7"]) == 2
    said = capsys.readouterr().err
    assert "seed was 42 and is 7. Name another --output-dir, or delete" in said
    assert "--answers-file" not in said


def test_every_flag_of_scoring_is_in_the_result_or_free():
    names = {field.name for field in dataclasses.fields(score.ScoreArguments)}
    recorded = {"data_dir", "data_root", "answers_file", "allow_missing"}
    assert names == recorded | {"json", "upload"}  # where results go


# Pruners and compensations ------------------------------------------------------------------------

COMPARED = {  # file name of a configuration -> flags of the single command
    "full": ["--visual-token-num", "576", "--no-compensation"],
    "no-image": ["--visual-token-num", "576", "--no-compensation", "--no-image"],
    "prune-30": ["--visual-token-num", "30", "--no-compensation"],
    "accm-30": ["--visual-token-num", "30"],
    "random-30": ["--pruner", "random", "--visual-token-num", "30", "--no-compensation"],
    "random+caption+selector-30": ["--pruner", "random", "--visual-token-num", "30"],
    "accm+caption-30": ["--visual-token-num", "30", "--compensation", "caption"],
    "random+caption-30": ["--pruner=random", "--visual-token-num=30", "--compensation=caption"],
}


def comparison_flags(tiny_flags, data_root, folder):
    words = f"--data-root {data_root} --batch-size 3 --benchmarks mmvp --budgets 30"
    words += " --pruners zero random none accm --compensations none caption+selector caption"
    return [*tiny_flags, *words.split(), "--output-dir", str(folder)]


def test_pruners_give_what_the_single_commands_give(
    tiny_flags, data_root, tmp_path, model, monkeypatch, capsys
):
    """And each of the four images passes through the tower once for all eight ways."""
    load = "llava.eval.caches.load_from_arguments"
    monkeypatch.setattr(load, lambda args: with_compensation(model, args))
    encoded = []
    encode = type(model).encode_images

    def counting(self, pixels, *needs, **more):
        encoded.append(len(pixels))
        return encode(self, pixels, *needs, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "encode_images", counting)
        assert sweep.main(comparison_flags(tiny_flags, data_root, tmp_path / "sweep")) == 0
    assert sum(encoded) == 4
    assert "| llava-v1.5-tiny | random with caption |" in " ".join(capsys.readouterr().out.split())
    found = files(tmp_path / "sweep")
    assert len(found) == 4 * len(COMPARED)
    for name, single in COMPARED.items():
        path = tmp_path / "single" / "mmvp" / f"llava-v1.5-tiny-{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        words = ["--data-root", str(data_root), "--answers-file", str(path)]
        assert answer.main(["mmvp", *tiny_flags, *single, *words, "--batch-size", "3"]) == 0
        written = f"mmvp/{path.name}"
        assert path.read_bytes() == found[written]
        settings = f"{written}.run/settings.json"
        assert (tmp_path / "single" / settings).read_bytes() == found[settings]


def test_a_benchmark_in_parts_is_answered_as_at_once(
    flags, tmp_path, undisturbed, monkeypatch, capsys
):
    """With room for one batch of images; the first two parts of POPE end within the third's."""
    monkeypatch.setattr("llava.eval.caches.images_at_once", lambda num_patches: 3)
    capsys.readouterr()
    assert sweep.main([*flags, "--output-dir", str(tmp_path / "parts")]) == 0
    assert files(tmp_path / "parts") == undisturbed
    assert capsys.readouterr().out.count("4 of 4 questions answered") == 4  # each way, once


@pytest.mark.parametrize(
    "wrong, says",
    [
        (["--pruners", "rnadom"], "there is no pruner 'rnadom' (did you mean random?)"),
        (["--compensations", "none"], "--compensations has no effect without --pruners"),
        (["--pruners", "random", "--compensations", "capton"], "there is no compensation 'capton'"),
        (["--pruners", "none", "zero", "--methods", "full"], "--budgets has no effect with"),
        (["--pruner", "random"], "a sweep has no --pruner: use --pruners"),
    ],
)
def test_a_wrong_pruner_is_one_clear_error(tiny_flags, data_root, tmp_path, capsys, wrong, says):
    words = ["--data-root", str(data_root), "--budgets", "30", "--output-dir", str(tmp_path)]
    assert sweep.main([*tiny_flags, *words, *wrong]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("error:") == 1 and "Traceback" not in said


def test_a_budget_that_a_pruner_cannot_meet_is_left_out(
    tiny_flags, data_root, tmp_path, lend_model, monkeypatch, capsys
):
    real = registry.pruning_of

    def choosy(method, num_patches, nearest, num_layers):
        if method.pruner == "random" and method.visual_token_num == 30:
            raise UserError("random wants an odd budget")
        return real(method, num_patches, nearest, num_layers)

    monkeypatch.setattr(registry, "pruning_of", choosy)
    words = ["--data-root", str(data_root), "--batch-size", "3", "--benchmarks", "mmvp"]
    flags = [*tiny_flags, *words, "--output-dir", str(tmp_path), "--pruners", "random"]
    assert sweep.main([*flags, "--budgets", "30", "31"]) == 0
    assert "random-30 is left out: random wants an odd budget" in capsys.readouterr().err
    assert [path.stem for path in tmp_path.glob("mmvp/*.jsonl")] == ["llava-v1.5-tiny-random-31"]
    assert sweep.main([*flags, "--budgets", "30"]) == 2
    assert "random wants an odd budget" in capsys.readouterr().err
