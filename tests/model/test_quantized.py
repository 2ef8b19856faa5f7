"""The LLM in 8 or 4 bits: what is refused, and what transformers is asked for. Nobody quantises
here, for that takes a GPU."""

import pytest
import torch
from transformers import LlamaForCausalLM

from llava.arguments import ModelArguments
from llava.checkpoints.__main__ import main as checkpoints
from llava.errors import UserError
from llava.eval.bench.__main__ import main as bench
from llava.model.builder import load_pretrained_model
from llava.model.language_model import quantized
from llava.model.language_model.builder import load_llm, load_quantized
from llava.model.language_model.quantized import bits_config, check_bits
from llava.model.loading.configs import read_config
from llava.model.loading.llava_config import read_llava_config, split_llava
from llava.model.loading.parts import locate_parts
from llava.model.loading.placement import Placement
from llava.model.loading.weights import read_checkpoint
from llava.serve import cli
from llava.serve.accm import Accm

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def llm_of(tiny_settings):
    """The configuration and the LLM's tensors of the tiny checkpoint, and where it lies."""
    folder = locate_parts(ModelArguments(**tiny_settings))["model"]
    config = read_llava_config(read_config(folder), str(folder))
    return config, split_llava(read_checkpoint(folder), str(folder))["llm"], str(folder)


@pytest.mark.parametrize("name", ["load_4bit", "load_8bit"])
def test_a_cpu_refuses_before_anything_is_read(tiny_settings, monkeypatch, name):
    monkeypatch.setattr("llava.model.builder.read_checkpoint", lambda path: pytest.fail("read"))
    says = f"--{name.replace('_', '-')} is for a GPU, .* the device here is cpu: leave it out"
    settings = tiny_settings | {name: True}
    with pytest.raises(UserError, match=says):
        load_pretrained_model(**settings)
    with pytest.raises(UserError, match=says):
        Accm.from_pretrained(**settings)


def test_commands_refuse_in_one_line(tiny_flags, capsys):
    for main, flags in (
        (cli.main, ["--device", "cpu"]),
        (checkpoints, ["verify", *tiny_flags]),
        (bench, tiny_flags),
    ):
        assert main([*flags, "--load-4bit"]) == 2
        error = capsys.readouterr().err
        assert "is for a GPU" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "four, eight, device, compiled, device_map, says",
    [
        (True, True, CUDA, False, None, "exclude each other"),
        (True, True, CPU, False, None, "exclude each other"),
        (True, False, CUDA, True, None, "--compile knows no quantised weights: .* or --load-4bit"),
        (False, True, CUDA, True, None, "--compile knows no quantised weights: .* or --load-8bit"),
        (False, True, CUDA, False, "auto", "--load-8bit works on one GPU: .* or --device-map"),
    ],
)
def test_what_does_not_go_together(four, eight, device, compiled, device_map, says):
    with pytest.raises(UserError, match=says):
        check_bits(four, eight, device, compiled, device_map)


def test_without_bitsandbytes_the_command_is_named(monkeypatch):
    monkeypatch.setattr(quantized, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(
        UserError, match=r"--load-8bit needs bitsandbytes 0.46.1 or newer, .*: .*\bquantized\W*$"
    ):
        check_bits(False, True, CUDA, False, None)
    monkeypatch.setattr(quantized, "is_bitsandbytes_available", lambda: True)
    check_bits(False, True, CUDA, False, None)


def test_random_weights_are_not_quantised(monkeypatch, capsys):
    place = Placement(CPU, torch.float32)
    monkeypatch.setattr("llava.eval.bench.comparison.placement", lambda args: place)
    assert bench(["--shape", "mini", "--load-8bit"]) == 2
    assert "no effect with --shape" in capsys.readouterr().err


def test_what_transformers_is_asked_for(tiny_settings, llm_of, monkeypatch):
    asked = {}

    def from_pretrained(name, **settings):
        asked.update(settings, name=name)
        return "the LLM"

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", from_pretrained)
    config, tensors, source = llm_of
    place = Placement(CUDA, torch.float16)
    for four in (True, False):
        args = ModelArguments(**tiny_settings, load_4bit=four, load_8bit=not four)
        assert load_llm(args, config, tensors, source, place) == "the LLM"
        assert asked["name"] is None and asked["dtype"] == torch.float16
        assert asked["device_map"] == {"": CUDA}
        bits = asked["quantization_config"]
        assert bits.load_in_4bit is four and bits.load_in_8bit is not four
    four = bits_config(True, torch.float16)
    assert four.bnb_4bit_quant_type == "nf4" and four.bnb_4bit_use_double_quant
    assert four.bnb_4bit_compute_dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_way_of_transformers_the_llm_is_the_same(tiny_settings, llm_of, dtype):
    """The way that quantises, but for that."""
    config, tensors, source = llm_of
    place = Placement(CPU, dtype)
    found = load_quantized(config, tensors, source, place, None)
    expected = load_llm(ModelArguments(**tiny_settings), config, tensors, source, place).eval()
    embeds = torch.randn(1, 5, config.llm.hidden_size, dtype=dtype)
    assert torch.equal(found(inputs_embeds=embeds).logits, expected(inputs_embeds=embeds).logits)
    assert found.dtype == dtype and not found.training


def test_its_weights_are_looked_at_as_always(llm_of):
    config, tensors, source = llm_of
    place, name = Placement(CPU, torch.float32), "model.norm.weight"
    damaged = {
        "missing": {key: tensor for key, tensor in tensors.items() if key != name},
        "not known here": tensors | {"model.other.weight": tensors[name]},
        "of another shape": tensors | {name: tensors[name][1:]},
        "NaN or infinite": tensors | {name: torch.full_like(tensors[name], torch.nan)},
    }
    for says, changed in damaged.items():
        with pytest.raises(UserError, match=says):
            load_quantized(config, changed, source, place, None)
