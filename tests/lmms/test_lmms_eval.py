"""The plug-in inside lmms-eval: its own command line on a task of this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from llava.arguments import ModelArguments
from llava.mini.drawing import draw_scene
from llava.mini.language import CAPTION_PROMPT
from llava.mini.scene import make_scene, scene_generator
from llava.model.builder import load_from_arguments
from llava.model.sample import Sample

pytest.importorskip(
    "lmms_eval", reason="lmms-eval is not installed: bash scripts/setup.sh lmms (1.3 GB)"
)

MODEL = Path(__file__).parents[2] / "checkpoints" / "accm-mini"
TOKENS = 9
SHORT = "\nAnswer the question using a single word or phrase."
UNTIL = " and "

HELPERS = """
from PIL import Image


def show(doc):
    return [Image.open(path) for path in doc["images"]]


def score(doc, results):
    return {"length": len(results[0])}
"""
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function helpers.show
doc_to_text: context
doc_to_target: ""
process_results: !function helpers.score
generation_kwargs: {generation}
metric_list: [{{metric: length, aggregation: mean, higher_is_better: true}}]
"""
TASKS = {
    "scenes_whole": {"max_new_tokens": 40, "temperature": 0.7},
    "scenes_until": {"max_new_tokens": 4096, "temperature": 0, "until": [UNTIL]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of tasks for --include_path; both ask the same questions."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "helpers.py").write_text(HELPERS)
    (folder / "questions.jsonl").write_text("".join(json.dumps(d) + "\n" for d in docs(folder)))
    for name, generation in TASKS.items():
        task = TASK.format(name=name, data=folder / "questions.jsonl", generation=generation)
        (folder / f"{name}.yaml").write_text(task)
    return folder


def docs(folder):
    """Questions about scenes, and among them what cannot be answered."""
    found = []
    for number in range(4):
        scene = make_scene(scene_generator(3, "test", number))
        path = str(folder / f"{number}.png")
        draw_scene(scene).save(path)
        contexts = [f"What color is the {thing.shape}?{SHORT}" for thing in scene.things[:2]]
        contexts += [CAPTION_PROMPT, f"<image>\nHow many objects are there in the image?{SHORT}"]
        found += [{"context": context, "images": [path]} for context in contexts]
    (folder / "broken.png").write_bytes(b"no image")
    broken = str(folder / "broken.png")
    return [
        *found[:5],
        {"context": "What color is the star?", "images": [broken]},
        {"context": "What color is the star?", "images": [path, path]},
        {"context": "What?\n" + "why " * 3000, "images": [path]},
        {"context": "Is there a red star in the image?", "images": []},
        *found[5:],
    ]


CANNOT = {5: "the image cannot be read", 6: "there are 2 images", 7: "the prompt takes"}


# On a machine without a GPU, lmms-eval would let each process believe to be alone.
TWO = """
from accelerate import PartialState

PartialState(cpu=True)

from lmms_eval.__main__ import cli_evaluate

cli_evaluate()
"""
RUNS = {"one by one": 1, "four at once": 4, "two processes": 4}  # batch sizes


def start(run, folder, out):
    (out / "two.py").write_text(TWO)
    command = [Path(sys.executable).with_name("lmms-eval")]
    if run == "two processes":
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node", "2", out / "two.py"]
    command += ["--model", "accm", "--batch_size", str(RUNS[run]), "--device", "cpu"]
    command += ["--model_args", f"pretrained={MODEL},visual_token_num={TOKENS}"]
    command += ["--tasks", ",".join(TASKS), "--include_path", folder]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(out / "hf"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [*command, "--log_samples", "--output_path", out],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """What lmms-eval answered and printed in each run; they go side by side."""
    outs = {run: tmp_path_factory.mktemp("out") for run in RUNS}
    started = {run: start(run, folder, out) for run, out in outs.items()}
    printed = {run: process.communicate(timeout=600)[0] for run, process in started.items()}
    for run, process in started.items():
        assert process.returncode == 0, printed[run]
    return {run: (answers_in(out, printed[run]), printed[run]) for run, out in outs.items()}


def answers_in(out, printed):
    """Task and place -> the text that lmms-eval scored."""
    found = {}
    for name in TASKS:
        files = list(out.rglob(f"*samples_{name}.jsonl"))
        assert len(files) == 1, printed
        for record in map(json.loads, files[0].read_text().splitlines()):
            found[name, record["doc_id"]] = record["filtered_resps"]
    return found


@pytest.fixture(scope="module")
def asked_alone(folder):
    """Place -> the model's own answer to the question on its own; None where there is none."""
    model = load_from_arguments(ModelArguments(str(MODEL), device="cpu"))
    found = {}
    for place, line in enumerate((folder / "questions.jsonl").read_text().splitlines()):
        doc = json.loads(line)
        if place in CANNOT:
            continue
        shown = Image.open(doc["images"][0]) if doc["images"] else Image.new("RGB", (1, 1))
        sample = Sample(
            shown.convert("RGB"),
            doc["context"].removeprefix("<image>\n"),
            visual_token_num=TOKENS,
            max_new_tokens=40,
            no_image=not doc["images"],
        )
        (answer,) = model.answer([sample])
        found[place] = answer.text
    return found


@pytest.mark.parametrize("run", RUNS)
def test_answers_are_those_of_questions_asked_alone(runs, asked_alone, run):
    answers, _ = runs[run]
    whole = {place: answers["scenes_whole", place] for place in asked_alone}
    assert whole == asked_alone and len(set(whole.values())) > 4
    until = {place: answers["scenes_until", place] for place in asked_alone}
    assert until == {place: text.split(UNTIL)[0] for place, text in asked_alone.items()}
    assert until != whole


@pytest.mark.parametrize("run", RUNS)
def test_what_cannot_be_answered_is_told_and_costs_nothing_else(runs, run):
    answers, printed = runs[run]
    for place, reason in CANNOT.items():
        for name in TASKS:
            assert answers[name, place] == ""
            assert f"{name}, test {place} gets an empty text: {reason}" in printed
    assert printed.count("temperature=0.7 is not heeded") == (2 if run == "two processes" else 1)
    if run != "two processes":  # each process counts its own
        assert "scenes_whole: 3 requests could not be answered" in printed


def test_what_the_plug_in_does_not_do():
    from llava.lmms.model import AccmModel

    given = f"pretrained={MODEL},visual_token_num={TOKENS},device=cpu"
    model = AccmModel.create_from_arg_string(given, {"batch_size": "2"})
    assert (model.batch_size, model.rank, model.world_size) == (2, 0, 1)
    assert model.device.type == "cpu"
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.generate_until_multi_round([])
    assert model.generate_until([]) == []


@pytest.mark.parametrize(
    "given, says",
    [
        ("visual_token_num=9", "say which model"),
        (f"pretrained={MODEL},tokens=9", "there is no model argument tokens"),
        (f"pretrained={MODEL},visual_token_num=999", "visual_token_num is 999"),
        (f"pretrained={MODEL},text_token_num=-1", "text_token_num is -1"),
    ],
)
def test_wrong_arguments_show_before_anything_is_asked(given, says):
    from llava.errors import UserError
    from llava.lmms.model import AccmModel

    with pytest.raises(UserError, match=says):
        AccmModel.create_from_arg_string(given, {"device": "cpu"})
