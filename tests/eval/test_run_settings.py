"""What a run records of its settings: all that decides an answer, and no more."""

import dataclasses
import shutil

import pytest
import torch

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.eval import answer as answer_command
from llava.eval import model_vqa_loader as answer
from llava.eval import model_vqa_mmbench, sweep
from llava.eval.arguments import AskArguments
from llava.eval.benchmarks.question import Question
from llava.eval.caches import Shared
from llava.eval.journal import Journal
from llava.eval.run import Run, run_settings
from llava.model.compensation.triplets import graph_settings
from llava.model.loading.parts import locate_parts
from llava.model.loading.placement import Placement
from tests.helpers.relations import save_relation_model

# Flags that decide the result, each with another value; settings must tell the two apart.
DECIDING = {
    "model_path": "other-model",
    "vision_tower": "other-tower",
    "gpt2": "other-gpt2",
    "caption_model": "other-caption.pt",
    "selector": "other-selector.pt",
    "longclip": "other-longclip.pt",
    "dtype": "bfloat16",
    "compile": True,
    "cpu_products": "packed",
    "compensation": False,
    "patch_post_layernorm": False,
    "text_selection": "nearest",
    "silence": False,
    "pruner": "random",
    "visual_token_num": 31,
    "text_token_num": 5,
    "seed": 7,
    "no_image": True,
}


OF_A_PRUNER = {"pruner_options"}  # decides as well, with a pruner that has some
OF_VIEWS = {"view_split"}  # decides as well, on a model of several views: test_llava_next.py
OF_QWEN = {"side_tower"}  # decides as well, on Qwen2.5-VL: test_qwen_side_tower.py
OF_A_COMPENSATION = {"oracle", "scene_graph", "compensation_options"}  # decide with one of them
ON_A_GPU = {"load_8bit": "8bit", "load_4bit": "4bit"}  # they decide as well; refused elsewhere
ONLY_ON_A_GPU = {"eager"}  # decides there, and is not in the settings elsewhere


FREE = {
    "checkpoints_root": "checkpoints are told by what is in them",
    "device": "its kind is in the settings; which one of a kind decides nothing",
    "device_map": "where the LLM's layers lie decides nothing",
    "batch_size": "in float32 it decides nothing; each line of the journal says it",
    "answers_file": "where the answers go",
}


ASKED = {  # what decides which questions are asked, and so the settings' hash of them
    *("data_dir", "data_root", "question_file", "image_folder", "num_chunks", "chunk_idx"),
    *("max_new_tokens", "limit"),
}


ONE_VALUE = {  # others are refused
    *("model_base", "conv_mode", "temperature", "top_p", "num_beams"),
    *("single_pred_prompt", "all_rounds", "lang"),
}


OF_A_SWEEP = {  # its runs' flags are made of these; the others are where things are
    *("budgets", "methods", "benchmarks", "output_dir", "report", "allow_missing"),
    *("pruners", "compensations", "costs"),
}


@pytest.mark.parametrize(
    "arguments, more",
    [
        (answer_command.AnswerArguments, set()),
        (answer.LoaderArguments, ONE_VALUE),
        (model_vqa_mmbench.MmbenchArguments, ONE_VALUE),
        (sweep.SweepArguments, OF_A_SWEEP),
    ],
)
def test_every_flag_is_in_the_settings_or_free(arguments, more):
    names = {field.name for field in dataclasses.fields(arguments)}
    assert names <= {
        *DECIDING,
        *OF_A_PRUNER,
        *OF_VIEWS,
        *OF_QWEN,
        *OF_A_COMPENSATION,
        *ON_A_GPU,
        *ONLY_ON_A_GPU,
        *FREE,
        *ASKED,
        *more,
    }


@pytest.fixture
def settings_of(tiny_settings, tmp_path):
    """run_settings with other flags; names of other checkpoints are copies with a byte more."""
    found = locate_parts(ModelArguments(**tiny_settings))

    def other(name):
        part = "model" if name == "model_path" else name
        copy = tmp_path / DECIDING[name]
        if found[part].is_dir():
            shutil.copytree(found[part], copy)
            (copy / "more.txt").write_text("x")
        else:
            copy.write_bytes(found[part].read_bytes() + b"x")
        return str(copy)

    def settings(**changes):
        for name in changes.keys() & {"model_path", *found}:
            changes[name] = other(name)
        args = AskArguments(**(tiny_settings | {"visual_token_num": 30} | changes))
        run = Run("pope", [], None, tmp_path / "a.jsonl", "tiny")
        return run_settings(run, args.without_unused_parts(), Shared(args.has_captions))

    return settings


@pytest.mark.parametrize("name", DECIDING)
def test_settings_tell_runs_apart(settings_of, name):
    assert settings_of(**{name: DECIDING[name]}) != settings_of()


def test_a_pruner_and_its_options_are_in_the_settings_by_their_own_names(settings_of):
    usual, other = (
        settings_of(pruner="scope", pruner_options=[f"alpha={alpha}"]) for alpha in ("1", "2")
    )
    assert usual == settings_of(pruner="scope") and usual["pruner_options"] == {}
    assert other["pruner_options"] == {"alpha": 2.0}
    assert other["method"] == "scope alpha=2.0 with captions"
    assert settings_of(pruner="prumerge+") == settings_of(pruner="prumergeplus")
    with pytest.raises(UserError, match="did you mean alpha"):
        settings_of(pruner="scope", pruner_options=["alfa=2"])


def test_a_compensation_and_its_files_are_in_the_settings(settings_of, tmp_path):
    texts = tmp_path / "texts.json"
    found = []
    for text in ("a", "b"):
        texts.write_text(f'{{"1": "{text}"}}', "utf-8")
        found.append(settings_of(compensation="oracle+merge", oracle=str(texts)))
    one, other = found
    assert one["compensation"] == "oracle+merge" and one["method"] == "accm with oracle+merge"
    assert one["checkpoints"].pop("oracle") != other["checkpoints"].pop("oracle")
    assert one == other and "selector" not in one["checkpoints"]
    assert settings_of(compensation="caption")["cpu_products"] == settings_of()["cpu_products"]


def test_the_options_of_a_scene_graph_are_in_the_settings(settings_of, tmp_path):
    weights = save_relation_model(tmp_path / "graph.pth")
    graph = {"compensation": "scene-graph", "scene_graph": str(weights)}
    usual = settings_of(**graph)
    other = settings_of(**graph, compensation_options=["chosen=3", "threshold=0.3"])
    assert usual["compensation_options"] == {} and other["compensation_options"] == {"chosen": 3}
    assert other["method"] == "accm with scene-graph chosen=3"
    (tmp_path / "graph.names.json").write_text('{"classes": [], "predicates": []}', "utf-8")
    assert settings_of(**graph)["checkpoints"].keys() - usual["checkpoints"].keys() == {
        "scene_graph_names"
    }
    older = {name: value for name, value in usual.items() if name != "compensation_options"}
    with Journal(tmp_path / "c.jsonl", older) as journal:
        journal.append({"key": "1", "record": {}})
    Journal(tmp_path / "c.jsonl", usual).close()
    with pytest.raises(UserError, match="compensation_options.chosen was None and is 3"):
        Journal(tmp_path / "c.jsonl", other)


@pytest.mark.parametrize(
    "options, error",
    [
        (["chose=3"], "scene-graph: there is no setting chose .did you mean chosen"),
        (["chosen=0"], "setting chosen is 0; it must be at least 1"),
        (["threshold=1"], "setting threshold is 1.0; it must be from 0 to below 1"),
        (["rounding=up"], "it must be none or half-bfloat16"),
        (["chosen"], "the compensation option 'chosen' is not NAME=VALUE"),
    ],
)
def test_an_option_that_means_nothing_is_named(options, error):
    with pytest.raises(UserError, match=error):
        graph_settings(options)


def test_runs_from_before_compensations_had_names_go_on(settings_of, tmp_path):
    file, settings = tmp_path / "b.jsonl", settings_of()
    older = {name: value for name, value in settings.items() if name != "compensation"}
    with Journal(file, older) as journal:
        journal.append({"key": "1", "record": {}})
    Journal(file, settings).close()
    with pytest.raises(UserError, match="method was 'accm' and is 'accm with merge'"):
        Journal(file, settings_of(compensation="merge"))


@pytest.mark.parametrize("name", ON_A_GPU)
def test_quantised_weights_are_in_the_settings(settings_of, name, monkeypatch):
    with pytest.raises(UserError, match="is for a GPU"):
        settings_of(**{name: True})
    place = Placement(torch.device("cuda"), torch.bfloat16)
    monkeypatch.setattr("llava.eval.run.placement", lambda args: place)
    monkeypatch.setattr("llava.eval.run.version", lambda package: f"version of {package}")
    assert settings_of()["quantized"] is None and "bitsandbytes" not in settings_of()["versions"]
    settings = settings_of(**{name: True})
    assert settings["quantized"] == ON_A_GPU[name]
    assert settings["versions"]["bitsandbytes"] == "version of bitsandbytes"


def test_cuda_graphs_are_in_the_settings_of_a_gpu(settings_of, monkeypatch):
    assert "eager" not in settings_of()
    place = Placement(torch.device("cuda"), torch.bfloat16)
    monkeypatch.setattr("llava.eval.run.placement", lambda args: place)
    assert [settings_of(eager=on)["eager"] for on in (True, False)] == [True, False]


def test_questions_are_in_the_settings(tiny_settings, tmp_path):
    args = AskArguments(**tiny_settings)
    one = Question("1", 1, tmp_path / "1.jpg", "Is it red?", "Is it red?", 4)
    two = dataclasses.replace(one, max_new_tokens=5)
    settings = [
        run_settings(Run("pope", asked, None, tmp_path / "a", "tiny"), args, Shared(True))
        for asked in ([one], [two], [one, two], [])
    ]
    assert len({found["questions"] for found in settings}) == 4


def test_without_an_image_no_token_is_counted(settings_of):
    blind, zero = settings_of(no_image=True), settings_of(pruner="zero")
    for settings in (blind, zero):
        assert (settings["method"], settings["visual_token_num"]) == ("no image", 0)
