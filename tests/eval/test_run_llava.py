"""LLaVA's command for one question, and the lines of LLaVA's README."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from llava.constants import IMAGE_TOKEN_INDEX
from llava.conversation import question_prompt
from llava.errors import UserError
from llava.eval import run_llava
from llava.eval.run_llava import eval_model
from llava.mm_utils import get_model_name_from_path, process_images, tokenizer_image_token
from llava.model.builder import load_pretrained_model
from llava.model.sample import Sample

QUERY = "What is it?"


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "noise.png"
    Image.effect_noise((60, 40), 90).convert("RGB").save(path)
    return path


@pytest.fixture
def loaded(monkeypatch, model):
    """The flags that a model was asked for with."""
    asked = []
    monkeypatch.setattr(
        "llava.model.builder.load_from_arguments", lambda args: asked.append(args) or model
    )
    return asked


def expected(model, image_file, **settings):
    with Image.open(image_file) as image:
        (answer,) = model.answer([Sample(image, QUERY, **settings)])
    return answer.text


def test_the_lines_of_llavas_readme(tiny_settings, model, image_file, loaded, capsys):
    model_path = tiny_settings["model_path"]
    args = type(
        "Args",
        (),
        {
            "model_path": model_path,
            "model_base": None,
            "model_name": get_model_name_from_path(model_path),
            "query": QUERY,
            "conv_mode": None,
            "image_file": str(image_file),
            "sep": ",",
            "temperature": 0,
            "top_p": None,
            "num_beams": 1,
            "max_new_tokens": 12,
        },
    )()
    eval_model(args)
    assert capsys.readouterr().out == expected(model, image_file, max_new_tokens=12) + "\n"
    assert loaded[0].model_path == model_path and loaded[0].has_captions


def test_loading_as_in_llavas_readme(tiny_settings, image_file):
    settings = dict(tiny_settings)
    model_path = settings.pop("model_path")
    tokenizer, model, image_processor, context_len = load_pretrained_model(
        model_path=model_path,
        model_base=None,
        model_name=get_model_name_from_path(model_path),
        **settings,
    )
    assert context_len == model.language_model.context_length
    with Image.open(image_file) as image:
        images = [image.copy()]
    pixels = process_images(images, image_processor, model.config)
    assert torch.equal(pixels, model.preprocess(images))
    prompt = question_prompt(QUERY)
    ids = tokenizer_image_token(prompt, tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt")
    (answer,) = model.without_captions().answer([Sample(images[0], QUERY, max_new_tokens=1)])
    assert ids.dtype == torch.int64 and ids.tolist() == answer.input_ids


@pytest.mark.parametrize("base", ["lmsys/vicuna-7b-v1.5", ""])
def test_weights_that_are_not_merged_are_refused(tiny_settings, base):
    with pytest.raises(UserError, match="only merged checkpoints"):
        load_pretrained_model(tiny_settings["model_path"], base, "llava-lora")


def test_llavas_flags(tiny_settings, model, image_file, loaded, capsys):
    words = ["--model-path", tiny_settings["model_path"], "--image-file", str(image_file)]
    words += ["--query", QUERY, "--conv-mode", "vicuna_v1", "--sep", ";", "--temperature", "0"]
    words += ["--num_beams", "1", "--max_new_tokens", "3", "--visual-token-num", "20"]
    assert run_llava.main(words) == 0
    answer = expected(model, image_file, max_new_tokens=3, visual_token_num=20)
    assert capsys.readouterr() == (answer + "\n", "")


@pytest.mark.parametrize(
    "words, says",
    [
        ("--temperature -1", "temperature is -1.0; it must be 0"),
        ("--num_beams 0", "num_beams is 0"),
        ("--model-base x", "--model-base x is not supported, leave it out"),
        ("--conv-mode llava_v0", "--conv-mode llava_v0 is not supported, only vicuna_v1 is"),
        ("--top_p 0.9", "top_p has no effect at temperature 0"),
        ("--image-file a.png,b.png", "several images by --sep ','"),
        ("--sep ; --image-file a,b.png", "no image a,b.png"),
        ("--query Where?<image-placeholder>", "the image stands before it"),
        ("--query Where?<image>", "about one image"),
        ("--max_new_tokens 0", "max_new_tokens is 0"),
    ],
)
def test_what_is_not_supported_says_so(image_file, loaded, capsys, words, says):
    given = ["--model-path", "nowhere", "--image-file", str(image_file), "--query", QUERY]
    assert run_llava.main([*given, *words.split()]) == 2
    _, error = capsys.readouterr()
    assert says in error and error.count("\n") == 1


@pytest.mark.parametrize("missing", ["model_path", "image_file", "query"])
def test_what_is_missing_is_named(image_file, loaded, missing):
    args = SimpleNamespace(model_path="nowhere", image_file=str(image_file), query=QUERY)
    delattr(args, missing)
    with pytest.raises(UserError, match=f"give --{missing.replace('_', '-')}"):
        eval_model(args)
