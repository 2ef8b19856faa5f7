"""LLaVA-NeXT checkpoints: verified, converted, and known to download."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from llava.arguments import ModelArguments
from llava.checkpoints.download import plan
from llava.checkpoints.llm import convert_llm
from llava.checkpoints.verify import verify
from tests.helpers.tiny_next import tiny_next


@pytest.fixture(scope="module")
def made(tmp_path_factory, checkpoints):
    return tiny_next(tmp_path_factory.mktemp("next"), checkpoints / "llava-v1.5-tiny", "mistral")


def verdicts(folder, clip):
    args = ModelArguments(model_path=str(folder), vision_tower=str(clip), compensation="none")
    return {verdict.part: verdict.problem for verdict in verify(args)}


@pytest.mark.parametrize("layout", ["nested", "flat"])
def test_a_whole_checkpoint_is_sound(made, layout):
    found = verdicts(getattr(made, layout), made.clip)
    assert found == {"model": None, "vision_tower": None}


@pytest.mark.parametrize(
    "newline, said",
    [
        (None, "it has none"),
        (torch.zeros(7), r"it has \(7,\)"),
        (torch.full((32,), torch.nan), "NaN"),
    ],
)
def test_a_newline_token_that_is_none(made, tmp_path, newline, said):
    for file in made.flat.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).symlink_to(file)
    tensors = load_file(made.flat / "model.safetensors")
    del tensors["model.image_newline"]
    save_file(
        tensors | ({} if newline is None else {"model.image_newline": newline}),
        tmp_path / "model.safetensors",
    )
    problem = verdicts(tmp_path, made.clip)["model"]
    assert "image_newline" in problem
    assert re.search(said, problem)


def test_the_llm_alone_is_a_plain_llama(made, tmp_path):
    from transformers import LlamaForCausalLM

    convert_llm(made.flat, tmp_path / "llm", None)
    llama = LlamaForCausalLM.from_pretrained(tmp_path / "llm")
    ids = torch.tensor([[1, 5, 9, 33]])
    with torch.inference_mode():
        wanted = made.stock.lm_head(made.stock.model.language_model(ids).last_hidden_state)
        torch.testing.assert_close(llama(ids).logits, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["vicuna-7b", "vicuna-13b", "mistral-7b"])
def test_they_can_be_downloaded(name):
    (one,) = plan([f"llava-v1.6-{name}"])
    assert one.repository == f"liuhaotian/llava-v1.6-{name}" and one.target == f"llava-v1.6-{name}"
