"""Qwen2.5-VL: parity with transformers' own class, pruning at M-RoPE's positions, bad input."""

import asyncio
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration, vision_utils
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from llava.arguments import ModelArguments
from llava.checkpoints.convert import convert
from llava.checkpoints.verify import verify
from llava.errors import UserError
from llava.eval.figure import draw_patches
from llava.model.builder import load_from_arguments
from llava.model.compensation.supplement import PrunedSample, TextQuery
from llava.model.memory import Memory
from llava.model.multimodal_encoder.qwen_tower import GIVEN, window_order
from llava.model.multimodal_encoder.side_tower import places
from llava.model.multimodal_encoder.visual_tokens import Needs, View
from llava.model.sample import Sample
from llava.model.token_pruning.pruner import Pruned
from llava.model.token_pruning.registry import PRUNERS
from llava.serve.accm import Accm
from llava.serve.engines.vllm import VllmEngine
from tests.conftest import ROOT
from tests.helpers.tiny_qwen import MOST, drawn, make_tiny_qwen

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
QUESTION = "What is this?"
HISTORY = (("What colour is it?", "Blue."), ("Are you sure?", "Yes."))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen") / "Qwen2.5-VL-tiny"
    make_tiny_qwen(folder)
    return folder


@pytest.fixture(scope="module")
def stock(folder):
    """transformers' own class, with the checkpoint's weights."""
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval()


def load(folder, **settings):
    settings = dict(compensation="none", device="cpu") | settings
    return load_from_arguments(ModelArguments(str(folder), **settings))


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture(scope="module")
def beside(folder, checkpoints):
    """The model with CLIP beside its tower, and captions."""
    return load(
        folder,
        compensation="caption+selector",
        side_tower=str(checkpoints / "clip-vit-tiny-patch14-336"),
        gpt2=str(checkpoints / "gpt2-tiny"),
        checkpoints_root=str(checkpoints),
    )


def sample_of(size, question=QUESTION, seed=0, **settings):
    settings = dict(max_new_tokens=4) | settings
    return Sample(drawn(*size, seed=seed), question, **settings)


def full(size, **settings):
    return sample_of(size, pruner="none", **settings)


def inputs_of(stock, model, sample):
    """The input of transformers' class for a sample, all visual tokens included."""
    tokenizer = model.language_model.tokenizer
    made = model.image_processor([sample.image], return_tensors="pt")
    count = int(made["image_grid_thw"].prod()) // 4
    text = tokenizer.chat(sample.question, sample.history)
    ids = torch.tensor([tokenizer.encode(text.replace("<|image_pad|>", "<|image_pad|>" * count))])
    kinds = (ids == stock.config.image_token_id).int()
    return dict(input_ids=ids, attention_mask=ids > -1, mm_token_type_ids=kinds, **made)


@torch.inference_mode()
def stock_answer(stock, model, sample, **settings):
    """The ids and the first logits of transformers' own generate."""
    inputs = inputs_of(stock, model, sample)
    found = stock.generate(
        **inputs,
        max_new_tokens=sample.max_new_tokens,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        eos_token_id=list(model.language_model.end_ids),
        pad_token_id=0,
        **settings,
    )
    return found.sequences[0, inputs["input_ids"].shape[1] :].tolist(), found.logits[0][0]


# All tokens ------------------------------------------------------------------------------------


def test_answers_to_images_of_all_sizes_are_those_of_transformers(stock, model):
    samples = [full(size, seed=n) for n, size in enumerate(SIZES)]
    together = model.answer(samples)
    for size, sample, answer in zip(SIZES, samples, together):
        ids, logits = stock_answer(stock, model, sample)
        assert answer.out_ids == ids, size
        assert torch.allclose(answer.first_logits, logits, atol=1e-4), size
        assert len(answer.kept_idx) == model.count_tokens(sample.image)
    assert len({len(answer.kept_idx) for answer in together}) > 5
    for sample, answer in list(zip(samples, together))[::4]:
        (alone,) = model.answer([sample])
        assert alone.out_ids == answer.out_ids
        assert torch.allclose(alone.first_logits, answer.first_logits, atol=1e-4)


def test_a_conversation_is_asked_in_the_chat_template(stock, model):
    sample = full((300, 200), history=HISTORY)
    assert model.answer([sample])[0].out_ids == stock_answer(stock, model, sample)[0]
    text = model.language_model.tokenizer.chat(QUESTION, HISTORY)
    assert text.count("<|im_start|>user") == 3 and text.count("<|image_pad|>") == 1
    assert text.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    assert text.endswith("<|im_start|>assistant\n")


def test_beams_are_those_of_transformers(stock, model):
    sample = full((200, 300), num_beams=3)
    answer = model.answer([sample])[0]
    assert answer.out_ids == stock_answer(stock, model, sample, num_beams=3)[0]


def test_the_checkpoint_s_own_template_is_used(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    template = "{% for m in messages %}({{ m.role }})<|image_pad|>{% endfor %}!"
    (other / "chat_template.jinja").write_text(template)
    assert load(other).language_model.tokenizer.chat("?", ()) == "(user)<|image_pad|>!"


def test_tied_embeddings_and_the_hub_s_layout(tmp_path):
    stock = make_tiny_qwen(tmp_path, tied=True)
    config = json.loads((tmp_path / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    rope_scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    flat = config | text | dict(rope_theta=rope["rope_theta"], rope_scaling=rope_scaling)
    flat |= dict(model_type="qwen2_5_vl", tie_word_embeddings=True)
    (tmp_path / "config.json").write_text(json.dumps(flat))
    model, sample = load(tmp_path), full((200, 100))
    assert model.answer([sample])[0].out_ids == stock_answer(stock, model, sample)[0]


# Pruned ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 200), (100, 400), (28, 28), (1600, 1200)])
def test_kept_tokens_have_the_positions_of_the_unpruned_prompt(stock, model, size):
    whole = full(size, history=HISTORY)
    inputs = inputs_of(stock, model, whole)
    expected, delta = stock.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], inputs["image_grid_thw"]
    )
    (unpruned,) = model.prompts([whole])
    assert torch.equal(unpruned.position_ids, expected[:, 0])
    start, count = unpruned.system_length, model.count_tokens(whole.image)
    budget = max(1, count // 9)
    pruned_sample = sample_of(size, history=HISTORY, pruner="fastervlm", visual_token_num=budget)
    answer = model.answer([pruned_sample])[0]
    (pruned,) = model.prompts([pruned_sample])
    assert len(answer.kept_idx) == budget == pruned.image_end - pruned.system_length
    kept = [*range(start), *(start + i for i in answer.kept_idx)]
    kept += range(start + count, expected.shape[2])
    assert torch.equal(pruned.position_ids, expected[:, 0, kept])
    behind = int(delta) + inputs["input_ids"].shape[1]
    assert pruned.position_ids[:, -1].tolist() == [behind - 1] * 3


def recomputed(model, sample):
    """Greedy ids of the pruned prompt, each from a pass over all positions, without a cache."""
    (prompt,) = model.prompts([sample])
    llm, ids = model.language_model.llm, []
    embeds, places = prompt.embeds[None], prompt.position_ids[:, None]
    for _ in range(sample.max_new_tokens):
        logits = llm(inputs_embeds=embeds, position_ids=places, use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] in model.language_model.end_ids:
            break
        embeds = torch.cat([embeds, model.language_model.embed_words(ids[-1:])[None]], dim=1)
        places = torch.cat([places, places[..., -1:] + 1], dim=-1)
    return ids


BEFORE_LLM = ["random", "uniform", "pool", "fastervlm", "vispruner", "holov", "scope", "divprune"]


@torch.inference_mode()
def test_cached_answers_are_those_of_full_recomputation(model):
    samples = [full(SIZES[-1])]
    samples += [
        sample_of(SIZES[-n], seed=n, pruner=pruner, visual_token_num=4)
        for n, pruner in enumerate([*BEFORE_LLM, "mmtok"], 1)
    ]
    answers = model.answer(samples)
    for sample, answer in zip(samples, answers):
        assert answer.out_ids == recomputed(model, sample), sample.pruner
        alone = model.answer([sample])[0]
        assert alone.out_ids == answer.out_ids and alone.kept_idx == answer.kept_idx
        assert torch.allclose(alone.first_logits, answer.first_logits, atol=1e-5)


def test_the_budget_is_exact_for_every_size(model):
    samples = [
        sample_of(size, pruner=pruner, visual_token_num=3)
        for size in SIZES[7:14]
        for pruner in ("fastervlm", "pool", "divprune")
    ]
    assert {len(answer.kept_idx) for answer in model.answer(samples)} == {3}


def test_a_share_and_a_budget_above_the_tokens_of_a_small_image(model):
    sizes = [(28, 28), (300, 200), (400, 100)]
    shares = [sample_of(size, pruner="fastervlm", visual_token_num="1/9") for size in sizes]
    assert [len(answer.kept_idx) for answer in model.answer(shares)] == [1, 6, 6]
    small = sample_of((28, 28), pruner="fastervlm", visual_token_num=36)
    (answer,) = model.answer([small])
    assert answer.pruned is None and len(answer.kept_idx) == 4
    assert answer.out_ids == model.answer([full((28, 28))])[0].out_ids


def test_a_prefix_that_was_read_before_changes_nothing(model):
    memory, image = Memory(), drawn(300, 200)
    samples = [
        Sample(image, question, pruner="uniform", visual_token_num=9, max_new_tokens=5)
        for question in ("What?", "Where is the small one?", "Who?")
    ]
    first = model.answer(samples, memory=memory)
    second = model.answer(samples[:1], memory=memory)[0]
    for sample, answer in zip(samples, first):
        assert model.answer([sample])[0].out_ids == answer.out_ids
    assert second.out_ids == first[0].out_ids


def test_a_cache_of_fixed_size_gives_the_same(folder, model):
    """What CUDA graphs read; on a CPU the same passes run one by one."""
    static = load(folder)
    static.language_model.use_cuda_graphs()
    image = drawn(300, 200)
    samples = [full((100, 100))]
    samples += [replace(full((1, 1)), image=image, question=text) for text in ("A?", "And this?")]
    for one, other in zip(static.answer(samples), model.answer(samples)):
        assert one.out_ids == other.out_ids
        assert torch.allclose(one.first_logits, other.first_logits, atol=1e-5)


@pytest.mark.parametrize("pruner", ["fastv", "pyramiddrop", "sparsevlm", "dart"])
def test_pruners_inside_the_llm_keep_places(model, pruner):
    samples = [
        sample_of(size, seed=n, pruner=pruner, visual_token_num=20)
        for n, size in enumerate([(300, 200), (200, 400)])
    ]
    together = model.answer(samples)
    for sample, answer in zip(samples, together):
        alone = model.answer([sample])[0]
        assert alone.out_ids == answer.out_ids and alone.layer_kept == answer.layer_kept
        assert torch.allclose(alone.first_logits, answer.first_logits, atol=1e-5)
        assert answer.layer_kept and len(answer.layer_kept[-1].kept_idx) < len(answer.kept_idx)


def test_rectify_and_merge_work_without_clip(folder):
    for name in ("merge", "rectify"):
        model = load(folder, compensation=name)
        sample = sample_of((300, 200), pruner="fastervlm", visual_token_num=9)
        answer = model.answer([sample])[0]
        plain = model.without_captions().answer([sample])[0]
        assert answer.kept_idx == plain.kept_idx
        assert not torch.allclose(answer.first_logits, plain.first_logits, atol=1e-3)


# The tower -------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("size", [(300, 200), (130, 260), (28, 28)])
def test_attention_received_is_that_of_the_last_block_of_whole_images(stock, model, size):
    vision, inputs = stock.model.visual, inputs_of(stock, model, full(size))
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
    (image,) = model.encode_images(model.preprocess([drawn(*size)]), needs)
    assert torch.allclose(image.received[1:], expected, atol=1e-6)
    assert torch.allclose(image.head_attention.mean(0), image.received, atol=1e-7)
    assert image.received[0] == 0 and image.received.sum().item() == pytest.approx(1 / 4, abs=1e-4)
    assert not torch.allclose(image.middle_received, image.received, atol=1e-5)
    (view,) = image.views
    assert view.rows * view.columns == len(image.features) == model.count_tokens(drawn(*size))
    assert torch.equal(order, window_order(view, 2))


# CLIP beside the tower -------------------------------------------------------------------------


def test_places_of_clip_s_patches_and_of_tokens():
    """A wide image of 4 x 2 tokens in a square of 4 x 4 patches, whose outer rows are padding."""
    token_idx, patch_idx = places(View(0, 2, 4), View(0, 4, 4), (100, 200))
    assert token_idx.tolist() == [-1] * 4 + [0, 1, 2, 3] + [4, 5, 6, 7] + [-1] * 4
    assert patch_idx.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    # A tall image of 3 x 1 tokens, in the second of four columns.
    token_idx, patch_idx = places(View(0, 3, 1), View(0, 4, 4), (300, 75))
    assert patch_idx.tolist() == [1, 9, 13]
    assert token_idx.view(4, 4).T.tolist() == [[-1] * 4, [0, 1, 1, 2], [-1] * 4, [-1] * 4]
    # As many patches as tokens: the same places.
    token_idx, patch_idx = places(View(0, 3, 3), View(0, 3, 3), (90, 90))
    assert token_idx.tolist() == patch_idx.tolist() == list(range(9))


def test_accm_chooses_by_clip_s_scores_at_the_same_places(beside):
    sample = sample_of((300, 200), pruner="accm", visual_token_num=9)
    answer = beside.answer([sample])[0]
    assert len(answer.kept_idx) == 9 and answer.selection.num_patches == 54
    assert "side tower" in answer.seconds and answer.seconds["side tower"] > 0
    (encoded,) = beside.encode([sample])
    image, side = encoded.image, beside.backbone.side
    (seen,) = side.clip(side.preprocess(sample.image)[None])
    assert torch.allclose(image.patch_embeds, seen.patch_embeds[image.patch_idx], atol=1e-5)
    assert torch.allclose(image.cls_attention, seen.cls_attention[image.patch_idx], atol=1e-6)
    plain = beside.answer([full((300, 200))])[0]
    assert "side tower" not in plain.seconds


def test_captions_are_written_of_the_clip_patches_at_dropped_places(beside):
    samples = [
        sample_of(size, seed=n, pruner="fastervlm", visual_token_num=5)
        for n, size in enumerate([(300, 200), (100, 400)])
    ]
    answers = beside.answer(samples)
    for sample, answer in zip(samples, answers):
        (alone,) = beside.answer([sample])
        assert alone.out_ids == answer.out_ids and alone.written.captions == answer.written.captions
        caption = answer.supplement.text
        text = beside.language_model.tokenizer.decode([i for i in answer.input_ids if i >= 0])
        assert caption.strip() in text and text.index(caption.strip()) < text.index(QUESTION)
    (encoded,) = beside.encode(samples[:1])
    (pruned,) = beside.prune([encoded], samples[:1])
    read = PrunedSample(encoded.image, pruned, samples[0].text_query)
    kept = set(pruned.kept_idx.tolist())
    expected = [i for i, place in enumerate(encoded.image.side_idx.tolist()) if place >= 0]
    expected = [i for i in expected if encoded.image.side_idx[i].item() not in kept]
    assert torch.equal(read.dropped, encoded.image.side_embeds[expected])
    assert 0 < len(expected) < len(encoded.image.side_embeds)


def test_a_drop_that_is_smaller_than_a_clip_patch_is_described_too(beside):
    image = drawn(224, 224)
    (encoded,) = beside.encode([Sample(image, QUESTION, pruner="fastervlm", visual_token_num=63)])
    image = replace(encoded.image, side_idx=torch.full_like(encoded.image.side_idx, -1))
    pruned = Pruned(64, torch.arange(1, 64), ("",) * 63)
    read = PrunedSample(image, pruned, TextQuery(QUESTION, QUESTION))
    assert torch.equal(read.dropped, image.side_embeds[image.patch_idx[:1]])


def test_pruners_of_clip_s_space_work_beside_it(beside):
    for pruner in ("trim", "cdpruner"):
        answer = beside.answer([sample_of((300, 200), pruner=pruner, visual_token_num=7)])[0]
        assert len(answer.kept_idx) == 7


# Bad input -------------------------------------------------------------------------------------


def test_pruners_say_what_the_model_does_not_have(model):
    with pytest.raises(UserError, match="accm reads CLIP's space.*--side-tower.*fastervlm"):
        model.answer([sample_of((300, 200), pruner="accm", visual_token_num=9)])
    for pruner in ("visionzip", "prunesid", "prumerge"):
        with pytest.raises(UserError, match=f"{pruner} reads a CLS token.*fastervlm"):
            model.answer([sample_of((300, 200), pruner=pruner, visual_token_num=9)])


def test_the_page_of_methods_says_which_pruners_work(model, beside):
    page = (ROOT / "docs" / "methods.md").read_text("utf-8")
    rows = page.split("## On Qwen2.5-VL")[1].split("## Controls")[0].splitlines()
    free, attended, by_clip, refused = (
        set(re.findall(r"`(\w+)`", row.split("|")[3])) for row in rows if "| `" in row
    )
    given = model.backbone.gives
    works = {name for name, pruner in PRUNERS.items() if not pruner.needs & ~given}
    with_clip = {name for name, p in PRUNERS.items() if not p.needs & ~beside.backbone.gives}
    assert works == free | attended and with_clip - works == by_clip
    assert set(PRUNERS) - with_clip == refused
    assert {name for name in works if PRUNERS[name].needs & GIVEN} == attended


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(compensation="caption+selector"), "--side-tower FOLDER.*--compensation none"),
        (dict(compensation="scene-graph"), "--side-tower FOLDER"),
        (dict(vision_tower="clip"), "--vision-tower is CLIP of a LLaVA"),
        (dict(text_selection="nearest"), "--text-selection is about CLIP"),
        (dict(side_tower="nowhere"), "there is no nowhere"),
        (dict(compile=True), "--compile is for Llama"),
        (dict(text_selection="nearest", side_tower="nowhere"), "there is no nowhere"),
    ],
)
def test_flags_that_cannot_work_are_refused(folder, settings, message):
    with pytest.raises(UserError, match=message):
        load(folder, **settings)


def test_a_side_tower_is_for_other_models_than_llava(load_tiny):
    with pytest.raises(UserError, match="--side-tower is for models whose own tower is not CLIP"):
        load_tiny(side_tower="clip")


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl", "internvl", "llava_onevision"])
def test_relatives_are_refused_by_name(folder, tmp_path, kind):
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": kind}))
    with pytest.raises(UserError, match=f"model_type {kind}.*not supported.*Qwen2.5-VL"):
        load(other)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"vision_config": None}, "configuration of"),
        ("config.json", {"quantization_config": {"bits": 4}}, "is quantised"),
        ("config.json", {"text_config": {"use_sliding_window": True}}, "use_sliding_window"),
        ("config.json", {"text_config": {"num_key_value_heads": 3}}, "share 3 heads"),
        ("config.json", {"vision_config": {"fullatt_block_indexes": [9]}}, "fullatt_block"),
        ("config.json", {"vision_config": {"out_hidden_size": 32}}, "out_hidden_size is 32"),
        ("config.json", {"vision_config": {"depth": 10**6}}, "num_hidden_layers is"),
        ("config.json", {"text_config": {"vocab_size": 100}}, "tokens and the model 100"),
        ("preprocessor_config.json", {"patch_size": 16}, "its patches have"),
        ("preprocessor_config.json", {"merge_size": 1}, "merge_size is 1"),
        ("generation_config.json", {"eos_token_id": ["a"]}, "eos_token_id"),
    ],
)
def test_damaged_configurations_are_one_line(folder, tmp_path, name, changes, message):
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / name).read_text())
    for key, value in changes.items():
        is_part = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = config[key] | value if is_part else value
    (other / name).write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as caught:
        load(other)
    assert "\n" not in str(caught.value)


def test_missing_weights_and_a_foreign_tokenizer(folder, tmp_path, checkpoints):
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    del tensors["visual.merger.mlp.0.bias"]
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(UserError, match="vision tower.*merger.mlp.0.bias"):
        load(other)
    (other / "tokenizer.json").unlink()
    (other / "tokenizer_config.json").write_text("{}")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(checkpoints / "gpt2-tiny" / name, other / name)
    with pytest.raises(UserError, match="has no token <|image_pad|>"):
        load(other)


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (201, 1)])
def test_images_that_are_too_narrow(model, size):
    with pytest.raises(UserError, match="longer side is at most 200 times"):
        model.answer([Sample(Image.new("RGB", size), QUESTION, pruner="none")])


@pytest.mark.parametrize("word", ["<|image_pad|>", "<|video_pad|>", "<image>"])
def test_one_image_and_no_video(model, word):
    with pytest.raises(UserError, match="one image"):
        model.answer([full((28, 28), question=f"{word} What?")])
    if word != "<image>":
        with pytest.raises(UserError, match="no video"):
            model.answer([full((28, 28), history=(("What?", word),))])


# Commands --------------------------------------------------------------------------------------


def test_verify_reads_all_parts(folder, checkpoints):
    clip = str(checkpoints / "clip-vit-tiny-patch14-336")
    settings = dict(device="cpu", gpt2=str(checkpoints / "gpt2-tiny"))
    settings |= dict(checkpoints_root=str(checkpoints))
    verdicts = list(verify(ModelArguments(str(folder), side_tower=clip, **settings)))
    assert [v.problem for v in verdicts] == [None] * 6
    assert [v.part for v in verdicts[:2]] == ["model", "side_tower"]
    captions, model = verify(ModelArguments(str(folder), **settings))
    assert model.problem is None and "--side-tower" in captions.problem
    (alone,) = verify(ModelArguments(str(folder), compensation="none", **settings))
    assert alone.problem is None


def test_convert_gives_the_same_answers(model, folder, tmp_path):
    convert(folder, tmp_path / "half", "bfloat16")
    convert(folder, tmp_path / "same", None)
    sample = sample_of((100, 200), pruner="uniform", visual_token_num=5)
    assert load(tmp_path / "same").answer([sample])[0].out_ids == model.answer([sample])[0].out_ids
    assert len(load(tmp_path / "half").answer([sample])[0].kept_idx) == 5


def test_the_python_interface(folder):
    accm = Accm.from_pretrained(folder, 6, pruner="fastervlm", compensation="none", device="cpu")
    image = drawn(300, 200)
    result = accm.answer(image, QUESTION, max_new_tokens=3)
    assert len(result.kept_idx) == 6 and result.caption is None
    assert accm.model.count_tokens(image) == 54 and accm.model.count_tokens() == MOST
    assert repr(result).startswith("Result(") and "6 of 54 visual tokens" in repr(result)
    assert result.figure().height >= 448
    picture = draw_patches(accm.model, image, [8], {8: "attention"})  # the end of the first row
    assert picture.size == (672, 448)
    shown = np.asarray(picture).astype(float)
    assert shown[10:60, 610:660].mean() > 3 * shown[10:60, 10:60].mean()


def test_prompts_for_another_engine_are_refused(model):
    models = SimpleNamespace(usual_model=model)
    engine = VllmEngine(models, ["http://127.0.0.1:9"], 1, 0.0, 0, lambda *_: None)
    with pytest.raises(UserError, match="M-RoPE.*--engine local"):
        asyncio.run(engine.start())
