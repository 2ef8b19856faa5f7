"""Pruners inside the LLM: their schedules, their choices, and a session whose layers differ."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from llava.errors import UserError
from llava.mm_utils import pad_left
from llava.model.kv_cache import KVPrefix
from llava.model.language_model.fused import fuse_llama
from llava.model.language_model.layer_session import LayerSession
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.language_model.prompts import Prompt, Reading
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.sample import Sample
from llava.model.token_pruning.dart import DartOptions, dart
from llava.model.token_pruning.layer_pruner import MERGED, counts_of, layers_of
from llava.model.token_pruning.registry import PRUNERS, pruning_of
from llava.model.token_pruning.sparsevlm import SparseVlmOptions, sparsevlm

INSIDE = [name for name, pruner in PRUNERS.items() if pruner.layers is not None]
LAYERS, SYSTEM, VISUAL = 8, 3, 25
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def llm():
    """A small Llama of eight layers, two heads of queries for each of keys."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def prompt_of(llm, text, seed, name=None, budget=15, **options):
    """A prompt of drawn embeddings, as the pruner of that name reads it."""
    draw = torch.Generator().manual_seed(seed)
    embeds = torch.randn(SYSTEM + VISUAL + text, llm.config.hidden_size, generator=draw)
    ids = [1] * SYSTEM + [-200] + [1] * text
    plan = None
    if name is not None:
        asked = Sample(None, "", pruner=name, visual_token_num=budget, pruner_options=options)
        plan = replace(pruning_of(asked, VISUAL, False, LAYERS).plan, first=VISUAL)
    reading = Reading(torch.arange(VISUAL), plan)
    return Prompt(ids, embeds, prefix=KVPrefix(), reading=reading)


def with_system(llm, prompt):
    """The prompt after its system part, whose keys and values stock transformers computes."""
    states = llm(inputs_embeds=prompt.embeds[None, :SYSTEM], use_cache=True).past_key_values
    layers = tuple((layer.keys[0], layer.values[0]) for layer in states.layers)
    return replace(prompt, prefix=KVPrefix(layers))


def read(llm, prompts, tokens=()):
    """The logits (B, V) after the prompts and after each token (B, D), and the session."""
    with torch.inference_mode():
        prompts = [with_system(llm, prompt) for prompt in prompts]
        session = LayerSession(llm, prompts, CPU)
        logits = [session.forward(*pad_left([p.embeds[SYSTEM:] for p in prompts], 8))]
        for token in tokens:
            logits.append(session.forward(token[:, None], torch.ones(len(prompts), 1)))
    return logits, session


def steps(llm, count, rows):
    draw = torch.Generator().manual_seed(77)
    return list(torch.randn(count, rows, llm.config.hidden_size, generator=draw))


def noting(prompt):
    """The prompt with a pruner that notes its choices by layer."""
    choices, plan = [], prompt.reading.plan

    def keep(state, count, options):
        choices.append(plan.pruner.keep(state, count, options))
        return choices[-1]

    noted = replace(plan, pruner=replace(plan.pruner, keep=keep))
    return replace(prompt, reading=replace(prompt.reading, plan=noted)), choices


def recomputed(llm, prompt, choices, more):
    """The last logits of the prompt and more tokens, all read at once on stock layers."""
    plan, model = prompt.reading.plan, llm.model
    hidden = torch.cat([prompt.embeds, *more])[None]
    positions, visual = torch.arange(hidden.shape[1])[None], VISUAL
    chosen = {stage.layer: choice for stage, choice in zip(plan.stages, choices)}
    for number, layer in enumerate(model.layers):
        if number in chosen:
            choice = chosen[number]
            merged = choice.arrays.get("merged", hidden[0, :0])
            system, rest = torch.arange(SYSTEM), slice(SYSTEM + visual, None)
            kept = torch.cat([system, choice.kept + SYSTEM])
            hidden = torch.cat([hidden[:, kept], merged[None], hidden[:, rest]], dim=1)
            visual = len(choice.kept) + len(merged)
            if plan.pruner.renumbers:
                positions = torch.arange(hidden.shape[1])[None]
            else:
                positions = torch.cat([positions[:, kept], positions[:, rest]], dim=1)
        causal = torch.ones(1, 1, *[hidden.shape[1]] * 2, dtype=torch.bool).tril()
        rotated = model.rotary_emb(hidden, positions)
        hidden = layer(hidden, causal, positions, position_embeddings=rotated)
    return llm.lm_head(model.norm(hidden[:, -1]))


def close(ours, wanted):
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", INSIDE)
def test_cached_steps_are_full_recomputation_and_a_batch_is_each_alone(llm, name):
    prompts = [prompt_of(llm, 6, 1, name, 15), prompt_of(llm, 11, 2, name, 19)]
    tokens = steps(llm, 3, 2)
    logits, session = read(llm, prompts, tokens)
    for b, prompt in enumerate(prompts):
        noted, choices = noting(prompt)
        alone, by_itself = read(llm, [noted], [token[b : b + 1] for token in tokens])
        assert by_itself.kept[0] == session.kept[b]
        assert [len(kept.kept_idx) for kept in session.kept[b]] == [
            stage.tokens for stage in prompt.reading.plan.stages
        ]
        for count, (ours, one) in enumerate(zip(logits, alone)):
            more = [token[b : b + 1] for token in tokens[:count]]
            wanted = recomputed(llm, prompt, choices, more)
            close(one, wanted)
            close(ours[b : b + 1], wanted)


def test_pruners_of_a_batch_may_differ(llm):
    prompts = [prompt_of(llm, 5 + i, i, name) for i, name in enumerate(INSIDE)]
    prompts.append(prompt_of(llm, 9, 9))
    logits, session = read(llm, prompts)
    for b, prompt in enumerate(prompts):
        alone, by_itself = read(llm, [prompt])
        assert by_itself.kept[0] == session.kept[b]
        close(logits[0][b : b + 1], alone[0])


def test_nothing_pruned_is_stock(llm):
    prompts, tokens = [prompt_of(llm, 6, 1), prompt_of(llm, 9, 2)], steps(llm, 2, 2)
    logits, session = read(llm, prompts, tokens)
    assert session.kept == [[], []]
    for b, prompt in enumerate(prompts):
        whole = torch.cat([prompt.embeds, *(token[b : b + 1] for token in tokens)])
        stock = llm(inputs_embeds=whole[None]).logits[0, -3:]
        close(torch.stack([one[b] for one in logits]), stock)


def test_on_the_layers_for_a_gpu_the_result_is_the_same(llm):
    fused = copy.deepcopy(llm)
    fuse_llama(fused)
    prompts = [prompt_of(llm, 5 + i, i, name) for i, name in enumerate(INSIDE)]
    (stock, later), session = read(llm, prompts, steps(llm, 1, len(prompts)))
    (ours, ours_later), other = read(fused, prompts, steps(llm, 1, len(prompts)))
    assert other.kept == session.kept
    close(ours, stock)
    close(ours_later, later)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_budgets_are_met(llm, dtype):
    half = copy.deepcopy(llm).to(dtype)
    prompts = [prompt_of(llm, 5 + i, i, name) for i, name in enumerate(INSIDE)]
    given = [replace(prompt, embeds=prompt.embeds.to(dtype)) for prompt in prompts]
    (logits,), session = read(half, given)
    for prompt, kept in zip(prompts, session.kept):
        stages = prompt.reading.plan.stages
        assert [len(one.kept_idx) for one in kept] == [stage.tokens for stage in stages]
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", INSIDE)
def test_the_first_choice_is_that_of_stock_transformers_outputs(llm, name):
    prompt = prompt_of(llm, 7, 5, name)
    (first, *_), image = prompt.reading.plan.stages, slice(SYSTEM, SYSTEM + VISUAL)
    llm.set_attn_implementation("eager")
    try:
        embeds, length = prompt.embeds[None], len(prompt.embeds)
        causal = torch.full((1, 1, length, length), -torch.inf).triu(1)
        out = llm(
            inputs_embeds=embeds,
            attention_mask=causal,
            output_attentions=True,
            output_hidden_states=True,
            use_cache=True,
        )
    finally:
        llm.set_attn_implementation("sdpa")
    layer, text = first.layer, length - SYSTEM - VISUAL
    hidden, attention = out.hidden_states[layer], out.attentions[layer - 1][:, :, -text:]
    if name == "dart":
        keys = out.past_key_values.layers[layer - 1].keys.transpose(1, 2).flatten(2)
        x = {"llm_keys": keys, "llm_hidden": llm.model.norm(hidden)}
        settings = DartOptions(system_tokens=SYSTEM, num_patches=VISUAL)
        wanted = dart(x, first.asked, settings)[0].kept
    elif name == "sparsevlm":
        x = {"projected": embeds[:, image], "llm_text": embeds[:, -text:]}
        x |= {"llm_attn": attention, "llm_hidden": hidden}
        (choice,) = sparsevlm(x, first.asked, SparseVlmOptions(system_tokens=SYSTEM))
        wanted = torch.cat([choice.kept, torch.full((len(choice.arrays["clusters"]),), MERGED)])
    else:
        scores = attention if name == "fastv" else out.attentions[layer]
        wanted = scores[0, :, -1, image].mean(0).topk(first.asked).indices.sort().values
    _, session = read(llm, [prompt])
    assert session.kept[0][0].kept_idx == tuple(wanted.tolist())


def test_given_positions_and_a_key_bias_are_those_of_a_stock_pass(llm):
    draw, kept, whole = torch.Generator().manual_seed(4), VISUAL, 60
    places = torch.randperm(whole, generator=draw)[:kept].sort().values
    bias = torch.rand(kept, generator=draw) * 2
    plain = prompt_of(llm, 6, 3)
    reading = replace(plain.reading, position_ids=places, num_positions=whole, key_bias=bias)
    tokens = steps(llm, 2, 2)
    logits, _ = read(llm, [replace(plain, reading=reading), prompt_of(llm, 9, 4)], tokens)
    for count, ours in enumerate(logits):
        embeds = torch.cat([plain.embeds, *(token[:1] for token in tokens[:count])])
        text = torch.arange(SYSTEM + whole, SYSTEM + whole + len(embeds) - SYSTEM - kept)
        positions = torch.cat([torch.arange(SYSTEM), SYSTEM + places, text])
        mask = torch.full((len(embeds), len(embeds)), -torch.inf).triu(1)
        mask[:, SYSTEM : SYSTEM + kept] += bias
        out = llm(
            inputs_embeds=embeds[None],
            attention_mask=mask[None, None],
            position_ids=positions[None],
        )
        close(ours[0], out.logits[0, -1])


# Schedules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "num_layers", "layers"),
    [
        ((2,), 32, [2]),
        ((2,), 40, [2]),
        ((2,), 2, [1]),
        ((8, 16, 24), 40, [10, 20, 30]),
        ((8, 16, 24), 4, [1, 2, 3]),
        ((3, 7, 16), 4, [1, 2, 3]),
        ((3, 7, 16), 8, [1, 2, 4]),
    ],
)
def test_layers_of_other_llms(published, num_layers, layers):
    assert layers_of("one", published, num_layers) == layers


@pytest.mark.parametrize("published", [(), (0,), (3, 3), (5, 2), (8, 16, 24)])
def test_layers_that_cannot_be(published):
    with pytest.raises(UserError, match="the pruner one|of the pruner one"):
        layers_of("one", published, 3)


def plan_of(name, budget, num_layers=32, **options):
    method = Sample(None, "", pruner=name, visual_token_num=budget, pruner_options=options)
    return pruning_of(method, 576, False, num_layers).plan


def test_the_mean_over_the_layers_is_the_budget_in_whole_tokens():
    assert plan_of("fastv", 64).schedule == {0: 576, 2: 30}  # (2 x 576 + 30 x 30) / 32 = 64.1
    assert str(plan_of("fastv", 64)) == ("576 visual tokens, 30 from layer 2 on: 64.1 on average")
    for num_layers, layers in ((32, [8, 16, 24]), (32, [3, 7, 16]), (5, [1, 2, 4]), (2, [1])):
        for first in (9, 144, 576):
            least = math.ceil((first * layers[0] + num_layers - layers[0]) / num_layers)
            for budget in {least, least + 1, (least + first) // 2, first - 1}:
                counts = counts_of("one", layers, num_layers, first, budget)
                read_by = [first] * num_layers
                for layer, count in zip(layers, counts):
                    read_by[layer:] = [count] * (num_layers - layer)
                assert abs(sum(read_by) / num_layers - budget) <= 0.5
                assert all(high >= low >= 1 for high, low in zip([first, *counts], counts))
            with pytest.raises(UserError, match=f"use {least} or more"):
                counts_of("one", layers, num_layers, first, least - 1)


def test_published_schedules():
    assert plan_of("fastv", 288, published=True).schedule == {0: 576, 2: 288}
    pyramid = plan_of("pyramiddrop", 72, published=True)
    assert pyramid.schedule == {0: 576, 8: 288, 16: 144, 24: 72}
    assert pyramid.mean_tokens == 270
    assert plan_of("dart", 128, published=True).schedule == {0: 576, 2: 132}
    assert plan_of("vscan_llm", 64, published=True).schedule == {0: 96, 16: 32}
    assert plan_of("vscan_llm", 64).schedule == {0: 96, 16: 32}
    # 276 dropped, 83 of them recycled into 9 clusters; then 109, 33, 4; then 94, 29, 3.
    sparse = plan_of("sparsevlm", 192, published=True)
    assert sparse.schedule == {0: 576, 3: 309, 7: 204, 16: 113}
    with pytest.raises(UserError, match="192, 128, 96, 64"):
        plan_of("sparsevlm", 100, published=True)


# In the pipeline ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(model):
    """The tiny model with an LLM of eight layers, which writes to the limit."""
    of_two = model.language_model
    config = {**of_two.llm.config.to_dict(), "num_hidden_layers": LAYERS, "initializer_range": 0.2}
    torch.manual_seed(1)
    llm = LlamaForCausalLM(LlamaConfig(**config)).eval().float()
    language_model = LanguageModel(llm, of_two.projector, of_two.tokenizer, -1)
    backbone = model.backbone.with_language_model(language_model)
    return LlavaAccm(backbone, None).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def picture():
    return Image.radial_gradient("L").convert("RGB").resize((60, 40))


def test_answers_of_a_batch_are_those_alone_and_say_what_was_left(deep, picture):
    names = [*INSIDE, "none", "uniform"]
    samples = [
        Sample(
            picture,
            f"What is it?{' Look well.' * i}",
            pruner=name,
            visual_token_num=None if name == "none" else 400,
            max_new_tokens=3,
            temperature=0.5 * (i % 2),
        )
        for i, name in enumerate(names)
    ]
    memory = Memory()
    for sample, answer in zip(samples, deep.answer(samples, memory=memory)):
        (alone,) = deep.answer([sample])
        (again,) = deep.answer([sample], memory=memory)
        assert answer.out_ids == alone.out_ids == again.out_ids
        assert answer.layer_kept == alone.layer_kept
        close(answer.first_logits, alone.first_logits)
        if sample.pruner in INSIDE:
            assert answer.kept_idx == alone.kept_idx
            assert len(answer.kept_idx) == answer.input_length - len(answer.input_ids) + 1
            assert round(answer.mean_visual_tokens) == 400
            last = answer.layer_kept[-1].kept_idx
            assert {*last} - {MERGED} < {*answer.kept_idx}
            assert len(answer.layer_kept) == len(answer.pruned.plan.stages)
            assert answer.reasons  # of what the first layer reads


def test_with_all_tokens_such_a_pruner_is_none(deep, picture):
    n = deep.count_tokens()
    samples = [
        Sample(picture, "What is it?", pruner=name, visual_token_num=n, max_new_tokens=2)
        for name in ("none", "fastv")
    ]
    full, pruned = deep.answer(samples)
    assert pruned.out_ids == full.out_ids and pruned.pruned is None and not pruned.layer_kept


def refused(model, image, **asked):
    with pytest.raises(UserError) as caught:
        model.answer([Sample(image, "What is it?", **asked)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_is_refused_in_a_line(deep, model, picture, monkeypatch):
    fastv = dict(pruner="fastv", visual_token_num=300)
    assert "num_beams 1" in refused(deep, picture, **fastv, num_beams=2)
    assert "use 73 or more" in refused(deep, picture, pruner="fastv", visual_token_num=40)
    message = refused(model, picture, pruner="pyramiddrop", visual_token_num=500)
    assert "this one has 2" in message and "before the LLM" in message
    with pytest.raises(UserError, match="another engine"):
        deep.prompts([Sample(picture, "What is it?", **fastv)])
    monkeypatch.setattr(deep.language_model, "is_compiled", True)
    assert "--compile" in refused(deep, picture, **fastv)


def test_a_compensation_gets_all_patches_where_the_llm_drops_them(model, picture):
    sample = Sample(picture, "What is it?", pruner="fastv", visual_token_num=400, max_new_tokens=2)
    whole = Sample(picture, "What is it?", pruner="fastv", visual_token_num=575, max_new_tokens=2)
    first, other = model.answer([sample, whole])
    assert first.supplement is not None
    assert first.compensation.candidates.ids == other.compensation.candidates.ids
    assert len(first.pruned.described_idx) == first.pruned.num_tokens


def test_layers_are_an_option(deep, picture):
    sample = Sample(picture, "Who?", pruner="fastv", visual_token_num=400, max_new_tokens=1)
    asked = replace(sample, pruner_options=["layers=8,16"])
    (answer,) = deep.answer([asked])
    assert [kept.layer for kept in answer.layer_kept] == [2, 4]
    assert round(answer.mean_visual_tokens) == 400
