"""A mini model from nothing, by the commands of scripts/v1_5/train/mini.sh, a step or two each."""

import json
import re
import shlex
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from llava.errors import UserError
from llava.mini import make_data
from llava.mini.architecture import CLIP_NAME
from llava.model.builder import load_pretrained_model
from llava.model.sample import Sample
from llava.serve.cli import CliArguments
from llava.train import (
    train_caption,
    train_clip,
    train_compensation,
    train_llava,
    train_long_clip,
    train_projector,
    train_selector,
)
from llava.utils.flags import FlagParser

QUESTION = "Is there a red circle in the image?\nAnswer the question using a single word or phrase."
SAMPLES = 4
# At its real rate the LLM learns first to say nothing, and from nothing no later stage can learn.
LLM_RATE = 1e-6
TRIED = {"question": "Is it red?", "captions": ["A.", "B.", "C."], "right": [True, False, True]}


class Builder:
    """Runs the commands one after the other, as the script does."""

    def __init__(self, work):
        self.work, self.out = work, work / "model"
        self.data, self.clip = work / "world" / "train", self.out / CLIP_NAME
        self.said = []  # last lines of each stage that went well

    def run(self, stage, status=0, **flags):
        flags = {"output_dir": self.work / "runs" / stage.__name__, "device": "cpu"} | flags
        flags = {"max_steps": 2, "batch_size": 2, "warmup_steps": 0} | flags
        words = [
            w for k, v in flags.items() for w in (f"--{k.replace('_', '-')}", *str(v).split(" "))
        ]
        with redirect_stdout(StringIO()) as out:
            assert stage.main(words) == status, stage.__name__
        if status == 0:
            self.said.append(out.getvalue().splitlines()[-2:])

    def make_llava(self):
        """What looks and what answers."""
        flags = ["--parts", "train", "--train-images", "6", "--processes", "1"]
        assert make_data.main(["--out", str(self.work / "world"), *flags]) == 0
        self.run(train_clip, vision_tower=self.clip, data=self.data)
        shutil.copytree(
            self.out, self.work / "untrained", ignore=shutil.ignore_patterns("*.safetensors")
        )
        words, first = self.work / "llava-language", self.work / "llava-projector"
        self.run_language(words)
        shared = {"data": self.data, "features": self.work / "features"}
        shared |= {"vision_tower": self.clip}
        self.run(train_projector, model_path=words, output=first, **shared)
        shared |= {"output": self.out}
        shared |= {"learning_rate": LLM_RATE, "questions_per_image": 3}
        self.run(train_llava, model_path=first, **shared)

    def run_language(self, output):
        """The first run of train_llava, on descriptions."""
        flags = {"output_dir": self.work / "runs" / "language", "shares": "0 0 0 1 0"}
        flags |= {"learning_rate": LLM_RATE}
        self.run(
            train_llava, model_path=self.work / "untrained", data=self.data, output=output, **flags
        )

    def make_compensator(self):
        """What writes and what chooses."""
        images, questions = self.data / "images", self.data / "conversations.json"
        shared = {"model_path": self.out, "images": images, "features": self.work / "features"}
        caption, selector = "coco_prefix-009.pt", "llava-RL_prefix-019.pt"
        before, accm = self.work / "accm", self.out / "accm"
        self.run(
            train_caption,
            captions=self.data / "captions.json",
            questions=questions,
            budgets=36,
            prefix_length=4,
            mapper_layers=1,
            output=before / caption,
            **shared,
        )
        self.run(train_long_clip, data=self.data, output=self.out / "longclip-L.pt")
        shared |= {
            "data": questions,
            "caption_model": before / caption,
            "budget": 9,
            "samples": SAMPLES,
        }
        # Nothing is mined with an LLM that knows nothing.
        run = self.work / "runs" / train_selector.__name__
        self.run(train_selector, status=2, output=before / selector, **shared)
        (run / "tried.jsonl").write_text((json.dumps(TRIED) + "\n") * SAMPLES)
        self.run(train_selector, output=before / selector, **shared)
        shared |= {"selector": before / selector, "selector_output": accm / selector}
        self.run(train_compensation, caption_output=accm / caption, **shared)


@pytest.fixture(scope="module")
def builder(tmp_path_factory, untrained):
    builder = Builder(tmp_path_factory.mktemp("mini"))
    shutil.copytree(untrained, builder.out)  # what make_model wrote
    builder.make_llava()
    builder.make_compensator()
    return builder


def test_the_pipeline_loads_and_answers(builder):
    tokenizer, model, _, context = load_pretrained_model(str(builder.out), device="cpu")
    assert context == 2048 and model.tower.num_patches == 144
    assert model.text_selection == "nearest"
    with Image.open(builder.data / "images" / "0.jpg") as image:
        image.load()
    full, compensated = model.answer(
        [Sample(image, QUESTION, visual_token_num=n, max_new_tokens=3) for n in (144, 9)]
    )
    (pruned,) = model.without_captions().answer(
        [Sample(image, QUESTION, visual_token_num=9, max_new_tokens=3)]
    )
    assert full.compensation is None and full.selection is None and len(full.kept_idx) == 144
    assert compensated.kept_idx == pruned.kept_idx and len(pruned.kept_idx) == 9
    assert pruned.compensation is None and len(compensated.compensation.captions) == 3
    told = tokenizer.encode(f"additional information: {compensated.compensation.chosen_caption}")
    assert len(compensated.input_ids) - len(pruned.input_ids) == len(told) - 1
    logits = [answer.first_logits for answer in (full, compensated, pruned)]
    assert all(row.isfinite().all() and len(row) == len(tokenizer) for row in logits)
    assert not torch.allclose(logits[0], logits[2]) and not torch.allclose(logits[1], logits[2])


def test_the_first_stage_of_the_llm_can_be_started_again(builder):
    """Once all is trained: a recipe that was interrupted goes through all its stages again."""
    log = builder.work / "runs" / "language" / "loss.jsonl"
    before = log.read_text()
    builder.run_language(builder.work / "llava-language")
    assert log.read_text() == before


TAKERS = {
    "llava.serve.cli": CliArguments,
    "llava.train.train_projector": train_projector.ProjectorArguments,
    "llava.train.train_llava": train_llava.LlavaArguments,
    "llava.train.train_selector": train_selector.SelectorArguments,
}


def test_every_stage_ends_with_what_it_wrote_and_a_command_that_takes_it(builder):
    takers = []
    for done, written in builder.said[:8]:
        assert re.fullmatch(
            r"train_\w+: 2 steps, 00:0\d of training, loss \S+ \(mean of 2 steps\)", done
        )
        files, command = written.removeprefix("written: ").split("; next: ")
        files = [Path(file) for file in files.split(", ")]
        # A stage wants flags of its own, which the dots stand for.
        python, module, *flags = shlex.split(command.removesuffix(" ..."))[1:]
        given = FlagParser(TAKERS[module], module, "").read(flags)
        given = {Path(value) for value in vars(given).values() if isinstance(value, str)}
        assert python == "-m" and all(file in given or file.parent in given for file in files)
        assert all(file.is_file() for file in files)
        takers.append(module.split(".")[-1].removeprefix("train_"))
    order = "projector projector llava cli selector selector cli cli"
    assert takers == order.split()


def test_every_stage_left_its_record(builder):
    def stages(folder):
        return set(json.loads((folder / "training.json").read_text()))

    assert stages(builder.clip) == {"train_clip"}
    assert stages(builder.out) == {"train_llava", "train_long_clip"}
    assert stages(builder.work / "accm") == {"train_caption", "train_selector"}
    assert stages(builder.out / "accm") == {"train_compensation"}


def test_the_answers_of_the_whole_were_kept(builder):
    lines = (builder.work / "runs" / train_compensation.__name__ / "answers.jsonl").read_text()
    assert len(lines.splitlines()) == SAMPLES and '"answer"' in lines


def test_a_part_that_is_not_there_is_named(builder):
    before = str(builder.work / "llava-projector")
    with pytest.raises(UserError, match="no gpt2 in .*llava-projector, beside it or under"):
        load_pretrained_model(before, device="cpu", vision_tower=str(builder.clip))
