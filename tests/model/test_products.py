"""The form of matrix products decides how long they take, and nothing else."""

import copy
import dataclasses
import gc
import pickle
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.eval.bench import batches
from llava.mini.benchmarks import write_benchmarks
from llava.model.builder import load_from_arguments
from llava.model.products import forms, optimize_for_inference
from llava.model.products.forms import (
    PACKED,
    PARTS,
    PLAIN,
    TURNED_STEPS,
    Form,
    choose_forms,
    described,
    processor,
)
from llava.model.products.layers import Formed, parts_of, set_form

ROOT = Path(__file__).parents[2]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ALL_TURNED = Form(turned_rows=1 << 10)
FORMS = [PLAIN, TURNED_STEPS, ALL_TURNED, PACKED]
AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_bf16 sse\n"
INTEL = "processor : 0\nvendor_id\t: GenuineIntel\nflags\t\t: avx2 avx512f avx512_bf16 amx_bf16\n"


class Block(nn.Module):
    """A layer of every kind that a model has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 40)
        self.bare = nn.Linear(40, 24, bias=False)
        self.conv = Conv1D(72, 24)
        self.attention = nn.MultiheadAttention(72, 4, dropout=0.5, batch_first=True)

    def forward(self, x):
        x = self.conv(self.bare(F.gelu(self.linear(x))))
        mask = torch.ones(x.shape[1], x.shape[1]).tril().log().to(x.dtype)
        return self.attention(x, x, x, need_weights=False, attn_mask=mask)[0]


@pytest.fixture
def block():
    torch.manual_seed(0)
    return Block().eval().requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(1, 4, 24, generator=torch.Generator().manual_seed(1))


def packed_count(module):
    return sum(isinstance(m, Formed) and m.packed is not None for m in module.modules())


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 24), (3, 1, 24), (2, 9, 24), (1, 600, 24), (1, 0, 24)])
def test_every_form_gives_the_same_product(block, form, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    wanted = block(x)
    set_form(block, form)
    torch.testing.assert_close(block(x), wanted, rtol=0, atol=2e-6)
    assert packed_count(block) == (5 if form == PACKED else 0)


@pytest.mark.parametrize("form", [ALL_TURNED, PACKED], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_they_differ_by_roundings(block, x, dtype, form):
    if form == PACKED and not forms.can_pack(dtype):
        pytest.skip(f"{dtype} is not packed here")
    block.to(dtype)
    wanted = block(x.to(dtype))
    set_form(block, form)
    torch.testing.assert_close(block(x.to(dtype)), wanted, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_checkpoint_of_it_is_the_same(block, form, tmp_path):
    before = {key: tensor.clone() for key, tensor in block.state_dict().items()}
    set_form(block, form)
    after = block.state_dict()
    assert sorted(after) == sorted(before)
    for key, tensor in before.items():
        assert after[key].equal(tensor) and after[key].layout == torch.strided
    save_file(after, tmp_path / "block.safetensors")
    other = Block()
    other.load_state_dict(load_file(tmp_path / "block.safetensors"))
    assert other.conv.weight.equal(before["conv.weight"])


def test_plain_puts_everything_back(block, x):
    """Also what training needs: dropout, and which weights learn."""
    block.train().requires_grad_(True)
    block.bare.requires_grad_(False)
    layers = dict(block.named_modules())
    state = {key: tensor.clone() for key, tensor in block.state_dict().items()}
    for form in (PACKED, ALL_TURNED, PACKED, PACKED, PLAIN):
        set_form(block, form)
    assert all(layers[name] is module for name, module in block.named_modules() if name)
    assert all(block.state_dict()[key].equal(tensor) for key, tensor in state.items())
    assert block.attention.dropout == 0.5 and block.training and block.linear.training
    assert block.linear.weight.requires_grad and not block.bare.weight.requires_grad
    assert block.attention.in_proj_weight.requires_grad
    block(x).sum().backward()
    assert block.linear.weight.grad.abs().sum() > 0


def test_packed_weights_are_not_trained(block, x):
    set_form(block, PACKED)
    with pytest.raises(UserError, match=r"know no gradients: call optimize_for_inf.* training$"):
        block(x.clone().requires_grad_(True))
    block.linear.bias.requires_grad_(True)
    with pytest.raises(UserError, match="know no gradients"):
        block(x)
    with torch.no_grad():
        block(x)


@pytest.mark.parametrize("name", ["linear", "bare", "conv", "attention"])
@pytest.mark.parametrize(
    "change",
    [
        lambda block, name: block.to(torch.float64),
        lambda block, name: block.to("meta"),
        lambda block, name: block.load_state_dict(Block().state_dict()),
        lambda block, name: copy.deepcopy(getattr(block, name)),
        lambda block, name: pickle.dumps(getattr(block, name)),
        lambda block, name: setattr(getattr(block, name), matrix(block, name), nn.Parameter()),
    ],
)
def test_packed_weights_are_not_changed_unawares(block, x, name, change):
    wanted = block(x)
    set_form(block, PACKED)
    with pytest.raises(UserError, match=r"optimize_for_inference\(model, .plain.\)") as refused:
        change(block, name)
    assert "\n" not in str(refused.value)
    torch.testing.assert_close(block(x), wanted, rtol=0, atol=2e-6)
    set_form(block, PLAIN)
    change(block, name)


def matrix(block, name):
    return "in_proj_weight" if name == "attention" else "weight"


def test_merging_a_lora_into_packed_weights_is_refused(block):
    set_form(block, PACKED)
    with pytest.raises(AttributeError, match="call optimize_for_inference") as refused:
        block.bare.weight += torch.ones(24, 40)
    assert "\n" not in str(refused.value)
    assert not hasattr(block.linear, "weight") and block.linear.out_features == 40
    set_form(block, ALL_TURNED)
    before = block.bare.weight.clone()
    block.bare.weight += torch.ones(24, 40)
    set_form(block, PACKED)
    set_form(block, PLAIN)
    assert block.bare.weight.equal(before + 1)


def test_attention_refuses_what_it_would_misread(block):
    set_form(block, PACKED)
    x = torch.randn(1, 4, 72)
    for asked in (
        dict(key=torch.randn(1, 4, 72)),
        dict(key_padding_mask=torch.zeros(1, 4, dtype=torch.bool)),
        dict(need_weights=True),
        dict(attn_mask=torch.zeros(4, 4, dtype=torch.bool)),
        dict(is_causal=True),
    ):
        with pytest.raises(ValueError, match="call optimize_for_inference"):
            block.attention(**(dict(query=x, key=x, value=x, need_weights=False) | asked))


def test_attention_that_it_cannot_stand_for_stays():
    for odd in (dict(batch_first=False), dict(kdim=4), dict(add_bias_kv=True), dict(bias=False)):
        part = nn.Sequential(nn.MultiheadAttention(8, 2, **(dict(batch_first=True) | odd)))
        set_form(part, PACKED)
        assert type(part[0]) is nn.MultiheadAttention


def test_originals_are_freed(block):
    weights = {name: weakref.ref(p) for name, p in block.named_parameters() if p.dim() == 2}
    assert len(weights) == 5
    set_form(block, PACKED)
    gc.collect()
    assert [name for name, weight in weights.items() if weight() is not None] == []


def test_tied_words_are_packed_beside_the_embedding_and_tied_again():
    gpt = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=8))
    gpt.eval().requires_grad_(False)
    x = torch.randn(3, 1, 32)
    wanted = gpt(inputs_embeds=x).logits
    table = gpt.transformer.wte.weight
    set_form(gpt, PACKED)
    assert gpt.lm_head.packed is not None and gpt.transformer.wte.weight is table
    torch.testing.assert_close(gpt(inputs_embeds=x).logits, wanted, rtol=0, atol=1e-6)
    assert gpt.state_dict()["lm_head.weight"].equal(table)
    set_form(gpt, PLAIN)
    assert gpt.lm_head.weight is table


def test_small_layers_stay_as_they_are(block):
    set_form(block, PACKED, smallest=40)
    assert packed_count(block) == 2  # the attention's two, of 72
    set_form(block, PACKED)
    assert packed_count(block) == 5
    set_form(block, PACKED, smallest=40)
    assert packed_count(block) == 2


# The table ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, kind",
    [
        (AMD, "amd avx512_bf16"),
        (INTEL, "intel amx"),
        (AMD.replace("avx512_bf16", ""), "amd avx512"),
        (AMD.replace("AuthenticAMD", "HygonGenuine"), "other"),
        ("vendor_id : GenuineIntel\nflags : sse4_2 avx\n", "other"),  # no AVX2
        ("", "other"),
        ("CPU implementer : 0x41\n", "other"),
    ],
)
def test_the_kind_of_a_processor(tmp_path, text, kind):
    (tmp_path / "cpuinfo").write_text(text)
    assert processor(tmp_path / "cpuinfo") == kind


def test_without_linux_it_is_unknown(tmp_path):
    assert processor(tmp_path / "cpuinfo") == "other"


def test_the_table_decides():
    amd = choose_forms("auto", CPU, torch.float32, kind="amd avx512_bf16")
    assert set(amd) == set(PARTS) and set(amd.values()) == {PACKED}
    intel = choose_forms("auto", CPU, torch.float32, kind="intel amx")
    assert intel["llm"] == PACKED and intel["tower"] == PLAIN
    intel = choose_forms("auto", CPU, torch.bfloat16, kind="intel amx")
    packs = forms.can_pack(torch.bfloat16)  # not without instructions for bfloat16
    assert (intel["llm"], intel["gpt2"]) == ((TURNED_STEPS, PACKED) if packs else (PLAIN, PLAIN))
    assert set(choose_forms("auto", CPU, torch.float32, kind="other").values()) == {PLAIN}
    assert set(choose_forms("plain", CPU, torch.bfloat16).values()) == {PLAIN}
    assert set(choose_forms("auto", CUDA, torch.bfloat16).values()) == {PLAIN}
    compiled = choose_forms("auto", CPU, torch.float32, compiled=True, kind="amd avx512_bf16")
    assert compiled["llm"] == PLAIN and compiled["gpt2"] == PACKED


@pytest.mark.parametrize(
    "choice, device, compiled, says",
    [
        ("fast", CPU, False, "there is no --cpu-products 'fast'; there are: auto, plain, packed"),
        ("packed", CUDA, False, "--cpu-products packed has no effect on cuda"),
        ("packed", CPU, True, "--compile knows no packed weights"),
    ],
)
def test_choices_that_are_refused(choice, device, compiled, says):
    with pytest.raises(UserError, match=says):
        choose_forms(choice, device, torch.float32, compiled)


def lacking(*_):
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute")


def wrong(x, weight, bias):
    return F.linear(x, weight.to_dense(), bias) + 1


@pytest.mark.parametrize("name, broken", [("pack", lacking), ("packed_linear", wrong)])
def test_without_torchs_operations_all_is_plain(monkeypatch, name, broken):
    monkeypatch.setattr(forms, name, broken)
    kind = "amd avx512_bf16"
    assert set(choose_forms("auto", CPU, torch.float32, kind=kind).values()) == {PLAIN}
    with pytest.raises(UserError, match="cannot pack float32 weights: leave out --cpu-products"):
        choose_forms("packed", CPU, torch.float32)


def test_what_a_run_records():
    assert described(dict.fromkeys(PARTS, PLAIN), "auto") == "plain"
    assert described(dict.fromkeys(PARTS, PACKED), "packed") == "packed"
    mixed = dict.fromkeys(PARTS, PLAIN) | {"gpt2": PACKED, "llm": TURNED_STEPS}
    assert described(mixed, "auto") == "llm turned to 8, gpt2 packed, from 512"


# Whole models ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini_samples(tmp_path_factory):
    """Questions of all mini benchmarks."""
    folder = tmp_path_factory.mktemp("products")
    sizes = {"mme": 4, "mmbench": 4, "pope": 4, "mmvp": 4, "seed": 4, "gqa": 4, "flickr": 4}
    write_benchmarks(folder, seed=5, split="test", sizes=sizes)
    return [
        dataclasses.replace(sample, visual_token_num=9)
        for sample in batches._benchmark_samples(str(folder), 28)
    ]


def test_no_answer_of_the_mini_benchmarks_depends_on_it(mini_samples):
    model = load_from_arguments(
        ModelArguments(str(ROOT / "checkpoints/accm-mini"), device="cpu", cpu_products="plain")
    )
    plain = model.answer(mini_samples)
    assert not packed_count(model)
    packed = optimize_for_inference(model, "packed").answer(mini_samples)
    assert packed_count(model) > 100
    for part in parts_of(model).values():
        set_form(part, ALL_TURNED)
    turned = model.answer(mini_samples)
    assert batches.differences(plain, packed) == [0, 0, 0]
    assert batches.differences(plain, turned) == [0, 0, 0]
    assert [a.compensation.captions for a in plain] == [a.compensation.captions for a in packed]


def test_a_flag_says_it(load_tiny, tiny_settings):
    assert packed_count(load_tiny(cpu_products="packed").language_model.llm) == 2 * 7 + 1
    assert not packed_count(load_tiny(cpu_products="plain"))
    with pytest.raises(UserError, match="there is no --cpu-products 'quick'"):
        load_tiny(cpu_products="quick")
