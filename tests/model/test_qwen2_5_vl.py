"""Qwen2.5-VL: parity with transformers' own class, pruning at M-RoPE's positions, bad input."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, vision_utils
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from llava.model.memory import Memory
from llava.model.multimodal_encoder.qwen_tower import window_order
from llava.model.multimodal_encoder.visual_tokens import Needs
from llava.model.sample import Sample
from tests.helpers.tiny_qwen import (
    QUESTION,
    drawn,
    full,
    load_tiny_qwen,
    make_tiny_qwen,
    sample_of,
)

# Width and height: from 1:4 to 4:1, tiny and large, and narrower ones.
SIZES = [
    (28, 28),
    (30, 50),
    (50, 30),
    (56, 56),
    (61, 13),
    (7, 300),
    (1, 150),
    (100, 400),
    (400, 100),
    (112, 448),
    (224, 224),
    (225, 223),
    (300, 200),
    (333, 777),
    (500, 375),
    (640, 480),
    (480, 640),
    (800, 200),
    (1000, 3000),
    (1600, 1200),
]
HISTORY = (("What colour is it?", "Blue."), ("Are you sure?", "Yes."))


@pytest.fixture(scope="module")
def stock(qwen_folder):
    """transformers' own class, with the checkpoint's weights."""
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen_folder).eval()


def inputs_of(stock, qwen, sample):
    """The input of transformers' class for a sample, all visual tokens included."""
    tokenizer = qwen.language_model.tokenizer
    made = qwen.image_processor([sample.image], return_tensors="pt")
    count = int(made["image_grid_thw"].prod()) // 4
    text = tokenizer.chat(sample.question, sample.history)
    ids = torch.tensor([tokenizer.encode(text.replace("<|image_pad|>", "<|image_pad|>" * count))])
    kinds = (ids == stock.config.image_token_id).int()
    return dict(input_ids=ids, attention_mask=ids > -1, mm_token_type_ids=kinds, **made)


@torch.inference_mode()
def stock_answer(stock, qwen, sample, **settings):
    """The ids and the first logits of transformers' own generate."""
    inputs = inputs_of(stock, qwen, sample)
    found = stock.generate(
        **inputs,
        max_new_tokens=sample.max_new_tokens,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        eos_token_id=list(qwen.language_model.end_ids),
        pad_token_id=0,
        **settings,
    )
    return found.sequences[0, inputs["input_ids"].shape[1] :].tolist(), found.logits[0][0]


# All tokens ------------------------------------------------------------------------------------


def test_answers_to_images_of_all_sizes_are_those_of_transformers(stock, qwen):
    samples = [full(size, seed=n) for n, size in enumerate(SIZES)]
    together = qwen.answer(samples)
    for size, sample, answer in zip(SIZES, samples, together):
        ids, logits = stock_answer(stock, qwen, sample)
        assert answer.out_ids == ids, size
        assert torch.allclose(answer.first_logits, logits, atol=1e-4), size
        assert len(answer.kept_idx) == qwen.count_tokens(sample.image)
    assert len({len(answer.kept_idx) for answer in together}) > 5
    for sample, answer in list(zip(samples, together))[::4]:
        (alone,) = qwen.answer([sample])
        assert alone.out_ids == answer.out_ids
        assert torch.allclose(alone.first_logits, answer.first_logits, atol=1e-4)


def test_a_conversation_is_asked_in_the_chat_template(stock, qwen):
    sample = full((300, 200), history=HISTORY)
    assert qwen.answer([sample])[0].out_ids == stock_answer(stock, qwen, sample)[0]
    text = qwen.language_model.tokenizer.chat(QUESTION, HISTORY)
    assert text.count("<|im_start|>user") == 3 and text.count("<|image_pad|>") == 1
    assert text.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    assert text.endswith("<|im_start|>assistant\n")


def test_beams_are_those_of_transformers(stock, qwen):
    sample = full((200, 300), num_beams=3)
    answer = qwen.answer([sample])[0]
    assert answer.out_ids == stock_answer(stock, qwen, sample, num_beams=3)[0]


def test_the_checkpoint_s_own_template_is_used(qwen_folder, tmp_path):
    other = shutil.copytree(qwen_folder, tmp_path / "other")
    template = "{% for m in messages %}({{ m.role }})<|image_pad|>{% endfor %}!"
    (other / "chat_template.jinja").write_text(template)
    assert load_tiny_qwen(other).language_model.tokenizer.chat("?", ()) == "(user)<|image_pad|>!"


def test_tied_embeddings_and_the_hub_s_layout(tmp_path):
    stock = make_tiny_qwen(tmp_path, tied=True)
    config = json.loads((tmp_path / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    rope_scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    flat = config | text | dict(rope_theta=rope["rope_theta"], rope_scaling=rope_scaling)
    flat |= dict(model_type="qwen2_5_vl", tie_word_embeddings=True)
    (tmp_path / "config.json").write_text(json.dumps(flat))
    qwen, sample = load_tiny_qwen(tmp_path), full((200, 100))
    assert qwen.answer([sample])[0].out_ids == stock_answer(stock, qwen, sample)[0]


# Pruned ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 200), (100, 400), (28, 28), (1600, 1200)])
def test_kept_tokens_have_the_positions_of_the_unpruned_prompt(stock, qwen, size):
    whole = full(size, history=HISTORY)
    inputs = inputs_of(stock, qwen, whole)
    expected, delta = stock.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], inputs["image_grid_thw"]
    )
    (unpruned,) = qwen.prompts([whole])
    assert torch.equal(unpruned.position_ids, expected[:, 0])
    start, count = unpruned.system_length, qwen.count_tokens(whole.image)
    budget = max(1, count // 9)
    pruned_sample = sample_of(size, history=HISTORY, pruner="fastervlm", visual_token_num=budget)
    answer = qwen.answer([pruned_sample])[0]
    (pruned,) = qwen.prompts([pruned_sample])
    assert len(answer.kept_idx) == budget == pruned.image_end - pruned.system_length
    kept = [*range(start), *(start + i for i in answer.kept_idx)]
    kept += range(start + count, expected.shape[2])
    assert torch.equal(pruned.position_ids, expected[:, 0, kept])
    behind = int(delta) + inputs["input_ids"].shape[1]
    assert pruned.position_ids[:, -1].tolist() == [behind - 1] * 3


def test_without_an_image_not_even_its_size_is_seen(qwen):
    samples = [sample_of(size, no_image=True) for size in [(28, 28), (1600, 1200), (100, 400)]]
    answers, prompts = qwen.answer(samples), qwen.prompts(samples)
    for answer, prompt in zip(answers, prompts):
        count = len(prompt.input_ids) - 1
        assert prompt.position_ids.tolist() == [list(range(count))] * 3
        assert answer.kept_idx == [] and answer.out_ids == answers[0].out_ids


def recomputed(qwen, sample):
    """Greedy ids of the pruned prompt, each from a pass over all positions, without a cache."""
    (prompt,) = qwen.prompts([sample])
    llm, ids = qwen.language_model.llm, []
    embeds, places = prompt.embeds[None], prompt.position_ids[:, None]
    for _ in range(sample.max_new_tokens):
        logits = llm(inputs_embeds=embeds, position_ids=places, use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] in qwen.language_model.end_ids:
            break
        embeds = torch.cat([embeds, qwen.language_model.embed_words(ids[-1:])[None]], dim=1)
        places = torch.cat([places, places[..., -1:] + 1], dim=-1)
    return ids


BEFORE_LLM = ["random", "uniform", "pool", "fastervlm", "vispruner", "holov", "scope", "divprune"]


@torch.inference_mode()
def test_cached_answers_are_those_of_full_recomputation(qwen):
    samples = [full(SIZES[-1])]
    samples += [
        sample_of(SIZES[-n], seed=n, pruner=pruner, visual_token_num=4)
        for n, pruner in enumerate([*BEFORE_LLM, "mmtok"], 1)
    ]
    answers = qwen.answer(samples)
    for sample, answer in zip(samples, answers):
        assert answer.out_ids == recomputed(qwen, sample), sample.pruner
        alone = qwen.answer([sample])[0]
        assert alone.out_ids == answer.out_ids and alone.kept_idx == answer.kept_idx
        assert torch.allclose(alone.first_logits, answer.first_logits, atol=1e-5)


def test_beams_of_a_pruned_prompt_continue_behind_the_unpruned_image(qwen):
    sample = sample_of((300, 200), pruner="fastervlm", visual_token_num=9, num_beams=3)
    (prompt,), places = qwen.prompts([sample]), []
    hook = qwen.language_model.llm.register_forward_pre_hook(
        lambda _, args, kwargs: places.append(kwargs["position_ids"]), with_kwargs=True
    )
    try:
        (answer,) = qwen.answer([sample])
    finally:
        hook.remove()
    assert len(answer.kept_idx) == 9 and len(places) > 1
    assert all(torch.equal(row, prompt.position_ids) for row in places[0].unbind(1))
    behind = prompt.position_ids[:, -1:]
    for step, place in enumerate(places[1:], 1):
        assert torch.equal(place, (behind + step)[:, None].expand(3, 3, 1))


def test_the_budget_is_exact_for_every_size(qwen):
    samples = [
        sample_of(size, pruner=pruner, visual_token_num=3)
        for size in SIZES[7:14]
        for pruner in ("fastervlm", "pool", "divprune")
    ]
    assert {len(answer.kept_idx) for answer in qwen.answer(samples)} == {3}


def test_a_share_and_a_budget_above_the_tokens_of_a_small_image(qwen):
    sizes = [(28, 28), (300, 200), (400, 100)]
    shares = [sample_of(size, pruner="fastervlm", visual_token_num="1/9") for size in sizes]
    assert [len(answer.kept_idx) for answer in qwen.answer(shares)] == [1, 6, 6]
    small = sample_of((28, 28), pruner="fastervlm", visual_token_num=36)
    (answer,) = qwen.answer([small])
    assert answer.pruned is None and len(answer.kept_idx) == 4
    assert answer.out_ids == qwen.answer([full((28, 28))])[0].out_ids


def test_a_prefix_that_was_read_before_changes_nothing(qwen):
    memory, image = Memory(), drawn(300, 200)
    samples = [
        Sample(image, question, pruner="uniform", visual_token_num=9, max_new_tokens=5)
        for question in ("What?", "Where is the small one?", "Who?")
    ]
    first = qwen.answer(samples, memory=memory)
    second = qwen.answer(samples[:1], memory=memory)[0]
    for sample, answer in zip(samples, first):
        assert qwen.answer([sample])[0].out_ids == answer.out_ids
    assert second.out_ids == first[0].out_ids


def test_a_cache_of_fixed_size_gives_the_same(qwen_folder, qwen):
    """What CUDA graphs read; on a CPU the same passes run one by one."""
    static = load_tiny_qwen(qwen_folder)
    static.language_model.use_cuda_graphs()
    image = drawn(300, 200)
    samples = [full((100, 100))]
    samples += [replace(full((1, 1)), image=image, question=text) for text in ("A?", "And this?")]
    for one, other in zip(static.answer(samples), qwen.answer(samples)):
        assert one.out_ids == other.out_ids
        assert torch.allclose(one.first_logits, other.first_logits, atol=1e-5)


@pytest.mark.parametrize("pruner", ["fastv", "pyramiddrop", "sparsevlm", "dart"])
def test_pruners_inside_the_llm_keep_places(qwen, pruner):
    samples = [
        sample_of(size, seed=n, pruner=pruner, visual_token_num=20)
        for n, size in enumerate([(300, 200), (200, 400)])
    ]
    together = qwen.answer(samples)
    for sample, answer in zip(samples, together):
        alone = qwen.answer([sample])[0]
        assert alone.out_ids == answer.out_ids and alone.layer_kept == answer.layer_kept
        assert torch.allclose(alone.first_logits, answer.first_logits, atol=1e-5)
        assert answer.layer_kept and len(answer.layer_kept[-1].kept_idx) < len(answer.kept_idx)


def test_rectify_and_merge_work_without_clip(qwen_folder):
    for name in ("merge", "rectify"):
        qwen = load_tiny_qwen(qwen_folder, compensation=name)
        sample = sample_of((300, 200), pruner="fastervlm", visual_token_num=9)
        answer = qwen.answer([sample])[0]
        plain = qwen.without_captions().answer([sample])[0]
        assert answer.kept_idx == plain.kept_idx
        assert not torch.allclose(answer.first_logits, plain.first_logits, atol=1e-3)


# The tower -------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("size", [(300, 200), (130, 260), (28, 28)])
def test_attention_received_is_that_of_the_last_block_of_whole_images(stock, qwen, size):
    vision, inputs = stock.model.visual, inputs_of(stock, qwen, full(size))
    pixels, grid = inputs["pixel_values"], inputs["image_grid_thw"]
    read = []
    hook = vision.blocks[3].attn.register_forward_pre_hook(
        lambda _, args, kwargs: read.append((args[0], kwargs["position_embeddings"])),
        with_kwargs=True,
    )
    vision(pixels, grid)
    hook.remove()
    ((hidden, rotary),) = read
    queries, keys, _ = vision.blocks[3].attn.qkv(hidden).view(len(hidden), 3, 2, 16).unbind(1)
    queries, keys = apply_rotary_pos_emb_vision(queries, keys, *rotary)
    attention = (torch.einsum("qhd,khd->hqk", queries, keys) / 4).softmax(-1)
    by_window = attention.mean((0, 1)).view(-1, 4).mean(1)
    order = vision_utils.get_vision_window_index(grid, 2, 56, 14)[0]
    expected = torch.zeros_like(by_window)
    expected[order] = by_window
    needs = Needs.RECEIVED | Needs.HEAD_ATTENTION | Needs.MIDDLE_RECEIVED
    (image,) = qwen.encode_images(qwen.preprocess([drawn(*size)]), needs)
    assert torch.allclose(image.received[1:], expected, atol=1e-6)
    assert torch.allclose(image.head_attention.mean(0), image.received, atol=1e-7)
    assert image.received[0] == 0 and image.received.sum().item() == pytest.approx(1 / 4, abs=1e-4)
    assert not torch.allclose(image.middle_received, image.received, atol=1e-5)
    (view,) = image.views
    assert view.rows * view.columns == len(image.features) == qwen.count_tokens(drawn(*size))
    assert torch.equal(order, window_order(view, 2))
