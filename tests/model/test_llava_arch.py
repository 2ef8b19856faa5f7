import copy
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from llava.constants import IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.mm_utils import process_images
from llava.model.memory import Memory
from llava.model.multimodal_encoder import clip_encoder
from llava.model.products.forms import PACKED, PLAIN, Form
from llava.model.products.layers import parts_of, set_form
from llava.model.prompt_ids import caption_ids, prompt_ids
from llava.model.sample import Sample
from llava.model.token_pruning.accm import text_distances


def is_default(case):
    return case.get("post_layernorm", True)


def checksums(x):
    flat = x.double().flatten()
    weights = (torch.arange(len(flat)) % 97 + 1) / 97
    return {
        "sum": flat.sum(),
        "abs_sum": flat.abs().sum(),
        "weighted_sum": (flat * weights).sum(),
        "n": len(flat),
    }


def same_checksums(x, recorded):
    found = checksums(x)
    assert found["n"] == recorded["n"]
    for name in ("sum", "abs_sum", "weighted_sum"):
        assert abs(found[name] - recorded[name]) <= 1e-4 * recorded["abs_sum"]


def same_as_recorded(answer, case):
    selection, compensation = answer.selection, answer.compensation
    assert sorted(selection.text_idx.tolist()) == sorted(case["text_idx"])
    assert sorted(selection.cls_idx.tolist()) == sorted(case["cls_idx"])
    for name in ("q1", "q3", "upper", "ratio", "n_selected"):
        assert getattr(selection.outliers, name) == pytest.approx(case["iqr"][name], abs=1e-6)
    assert selection.n_unique_before_cut == case["n_unique_before_cut"]
    assert selection.union_idx.tolist() == case["union_idx"]
    assert selection.uniform_step == case["uniform_step"]
    assert len(selection.uniform_idx) == case["n_uniform_added"]
    assert len(selection.random_idx) == case["random_pad"]["n"]
    assert answer.kept_idx == case["kept_idx"]
    assert compensation.question_ids == case["gpt_prompt_ids"]
    assert compensation.candidates.ids == case["caption_ids"]
    assert compensation.candidates.stopped == case["beam_stopped"]
    assert compensation.captions == case["captions"]
    assert np.allclose(compensation.scores, case["selector_scores"], rtol=0, atol=1e-4)
    assert compensation.chosen_index == case["chosen_index"]
    assert compensation.chosen_caption == case["chosen_caption"]
    assert answer.input_ids == case["llm_input_ids"]
    assert answer.input_length == case["inputs_embeds_len"]
    assert answer.out_ids == case["out_ids"]
    assert answer.raw_text == case["out_text"]
    assert answer.text == case["out_text_stripped"]


def test_recorded_cases_one_by_one(golden, model, load_tiny):
    cases = golden.json("accm_cases.json")
    logits = golden.arrays("accm_arrays.npz")
    other = load_tiny(patch_post_layernorm=False)
    for case, sample in zip(cases, golden.samples(cases)):
        (answer,) = (model if is_default(case) else other).answer([sample])
        same_as_recorded(answer, case)
        recorded = logits[f"{case['id']}/first_logits"]
        assert np.allclose(answer.first_logits.numpy(), recorded, rtol=0, atol=1e-4), case["id"]


@pytest.mark.parametrize("form", [PLAIN, Form(turned_rows=1 << 10), PACKED], ids=str)
def test_recorded_cases_in_mixed_batches(golden, load_tiny, form):
    """Eight at once: other images, questions, lengths and budgets beside each other; and in every
    form of matrix products."""
    model = load_tiny()
    for part in parts_of(model).values():
        set_form(part, form)
    cases = [case for case in golden.json("accm_cases.json") if is_default(case)]
    cases = cases[::2] + cases[1::2]
    for start in range(0, len(cases), 8):
        batch = cases[start : start + 8]
        for case, answer in zip(batch, model.answer(golden.samples(batch))):
            same_as_recorded(answer, case)


@torch.inference_mode()
def test_recorded_values_between_the_stages(golden, model):
    arrays = golden.arrays("accm_arrays.npz")
    cases = [case for case in golden.json("accm_cases.json") if is_default(case)]
    for case, sample in zip(cases, golden.samples(cases)):

        def same(tensor, name):
            recorded = arrays[f"{case['id']}/{name}"]
            assert np.allclose(tensor.numpy(), recorded, rtol=0, atol=1e-4), (case["id"], name)

        encoded = model.encode([sample])
        (selection,) = model.prune(encoded, [sample])
        image, text_embed = encoded[0].image, encoded[0].text_embed
        (compensation,) = model.compensate(encoded, [selection], [sample])
        (spliced,) = model.splice(encoded, [selection], [compensation], [sample])
        features = image.features[selection.kept_idx]
        same(image.cls_attention, "cls_attn")
        same(text_embed, "text_embeds")
        same(text_distances(image.patch_embeds[None], text_embed[None])[0], "distances")
        same(features[:3], "kept_features_first3")
        same(model.language_model.projector(features[:3]), "projected_first3")
        same(compensation.prefix, "prefix_mapped")
        same_checksums(features, case["kept_features"])
        same_checksums(compensation.caption_prompt, case["prefix_embed"])
        same_checksums(spliced.embeds, case["inputs_embeds"])


def test_recorded_plain_llava(golden, prune_only):
    cases = golden.json("plain_llava.json")
    arrays = golden.arrays("plain_llava_arrays.npz")
    full = [c | {"K": 576, "T": None, "seed": 0, "tower_prompt": None} for c in cases]
    questions = golden.json("manifest.json")["questions"]
    full = [c | {"llm_question": questions[c["question"]]["llm_question"]} for c in full]
    for case, answer in zip(cases, prune_only.answer(golden.samples(full))):
        assert answer.input_ids == case["prompt_ids"]
        assert answer.input_length == case["inputs_embeds_len"]
        assert answer.out_ids == case["out_ids"]
        assert answer.raw_text == case["out_text"]
        recorded = arrays[f"{case['id']}/first_logits"]
        assert np.allclose(answer.first_logits.numpy(), recorded, rtol=0, atol=1e-4)


def transformers_llava(model):
    """transformers' own LLaVA with the weights of the tiny model."""
    clip, language_model = model.tower.clip, model.language_model
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**clip.config.vision_config.to_dict()),
        text_config=copy.deepcopy(language_model.llm.config),
        image_token_index=language_model.llm.config.vocab_size - 1,
    )
    llava = LlavaForConditionalGeneration(config).float().eval()
    llava.model.language_model.load_state_dict(language_model.llm.model.state_dict())
    llava.lm_head.load_state_dict(language_model.llm.lm_head.state_dict())
    vision = llava.model.vision_tower
    getattr(vision, "vision_model", vision).load_state_dict(clip.vision_model.state_dict())
    first, _, second = language_model.projector
    llava.model.multi_modal_projector.linear_1.load_state_dict(first.state_dict())
    llava.model.multi_modal_projector.linear_2.load_state_dict(second.state_dict())
    return llava


@torch.inference_mode()
def test_plain_llava_has_the_logits_of_transformers(model):
    image = Image.effect_noise((200, 120), 80).convert("RGB")
    (answer,) = model.answer([Sample(image, "What is it?", visual_token_num=576, max_new_tokens=3)])
    llava = transformers_llava(model)
    placeholder = llava.config.image_token_id
    ids = [
        j
        for i in answer.input_ids
        for j in ([placeholder] * 576 if i == IMAGE_TOKEN_INDEX else [i])
    ]
    pixels = process_images([image], model.image_processor, "pad")
    logits = llava(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0, -1]
    assert torch.allclose(logits, answer.first_logits, rtol=0, atol=1e-4)


def sample_of(seed, **settings):
    noise = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Sample(Image.fromarray(noise), "What is it?\nAnswer shortly.", **settings)


@pytest.mark.parametrize("k", [1, 2, 17, 300, 575])
def test_any_budget_gives_so_many_tokens(model, k):
    (answer,) = model.answer([sample_of(1, visual_token_num=k, max_new_tokens=2)])
    assert len(answer.kept_idx) == len(set(answer.kept_idx)) == k
    assert answer.input_length == len(answer.input_ids) - 1 + k
    assert answer.compensation is not None


def test_all_tokens_mean_no_pruning_and_no_caption(model):
    (answer,) = model.answer([sample_of(1, visual_token_num=576, max_new_tokens=2)])
    assert answer.selection is answer.compensation is None
    assert answer.kept_idx == list(range(576))


def test_pruning_without_compensation(model, prune_only):
    sample = sample_of(2, max_new_tokens=2)
    (with_caption,), (without,) = model.answer([sample]), prune_only.answer([sample])
    assert without.kept_idx == with_caption.kept_idx
    assert without.compensation is None
    assert len(without.input_ids) < len(with_caption.input_ids)


def test_the_constant_sets_the_budget_everywhere(model, monkeypatch):
    monkeypatch.setattr(clip_encoder, "VISUAL_TOKEN_NUM", 50)
    (default, explicit) = model.answer(
        [sample_of(1, max_new_tokens=2), sample_of(1, visual_token_num=50, max_new_tokens=2)]
    )
    assert len(default.kept_idx) == 50
    assert default.kept_idx == explicit.kept_idx
    monkeypatch.setattr(clip_encoder, "VISUAL_TOKEN_NUM", 0)
    with pytest.raises(UserError, match="visual_token_num is 0"):
        model.answer([sample_of(1)])


def test_questions_on_one_image_share_its_encoding(model, monkeypatch):
    """As docs/performance.md promises; how many images go through the tower together is free."""
    seen = []
    tower_forward = model.tower.forward
    monkeypatch.setattr(
        model.tower, "forward", lambda pixels: seen.append(len(pixels)) or tower_forward(pixels)
    )
    first = sample_of(103, max_new_tokens=2)
    second = dataclasses.replace(first, question="Where is it?")
    third = sample_of(104, max_new_tokens=2)
    memory = Memory()
    together = model.answer([first, third, second], memory=memory)
    assert sum(seen) == 2
    same = dataclasses.replace(first, image=first.image.copy())  # known by its pixels
    alone = [model.answer([sample], memory=memory)[0] for sample in (same, third, second)]
    assert sum(seen) == 2
    assert model.answer([first, same])[0].kept_idx == together[0].kept_idx
    assert sum(seen) == 3
    for one, other in zip(together, alone):
        assert (one.kept_idx, one.out_ids) == (other.kept_idx, other.out_ids)


def test_images_that_differ_in_a_pixel_or_a_palette_are_told_apart(model):
    image = sample_of(105).image
    other = image.copy()
    other.putpixel((5, 5), (1, 2, 3))
    paletted = image.quantize(16)
    recoloured = paletted.copy()
    recoloured.putpalette(paletted.getpalette()[::-1])
    images = [image, other, paletted, recoloured]
    encoded = model.encode([Sample(each, "What?", visual_token_num=36) for each in images])
    assert len({id(each.image) for each in encoded}) == 4
    assert not torch.equal(encoded[2].image.features, encoded[3].image.features)


def test_a_question_may_come_encoded(model):
    sample = sample_of(6, max_new_tokens=3)
    (text_embed,) = model.encode_questions([sample.question_of_the_method])
    again = dataclasses.replace(sample, text_embed=text_embed)
    one, other = model.answer([sample])[0], model.answer([again])[0]
    assert (one.kept_idx, one.out_ids) == (other.kept_idx, other.out_ids)
    wrong = dataclasses.replace(sample, text_embed=-text_embed, visual_token_num=12)
    assert model.answer([wrong])[0].kept_idx != one.kept_idx


def test_each_stage_is_timed(model):
    (answer,) = model.answer([sample_of(7, max_new_tokens=2)])
    stages = "encode prune caption select splice prefill decode".split()
    assert list(answer.seconds) == stages
    assert all(seconds > 0 for seconds in answer.seconds.values())


def test_an_encoded_image_stands_for_the_image(model):
    sample = sample_of(5, max_new_tokens=3)
    (encoded,) = model.encode_images(model.preprocess([sample.image]))
    again = dataclasses.replace(sample, image=encoded)
    one, other = model.answer([sample])[0], model.answer([again])[0]
    assert (one.kept_idx, one.out_ids) == (other.kept_idx, other.out_ids)


def test_answers_end_at_their_own_limits(model):
    limits = [3, 1, 5]
    answers = model.answer([sample_of(s, max_new_tokens=n) for s, n in enumerate(limits)])
    assert [len(answer.out_ids) for answer in answers] == limits


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs(load_tiny, dtype):
    (answer,) = load_tiny(dtype=dtype).answer([sample_of(1, max_new_tokens=3)])
    assert len(answer.kept_idx) == clip_encoder.VISUAL_TOKEN_NUM
    assert len(answer.compensation.captions) == 3
    assert sum(answer.compensation.scores) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "settings, says",
    [
        (dict(question=""), "question is empty"),
        (dict(question="  \n "), "question is empty"),
        (dict(question="\nWhat?"), "tower question .* is empty"),
        (dict(question=None), "not a text"),
        (dict(question="<image>\nWhat?"), "about one image"),
        (dict(tower_question="two <image><image>"), "about one image"),
        (dict(question="word " * 2000), "caption model, which reads at most 425"),
        (dict(question="x " * 5000, tower_question="x"), "of the LLM's 4096 positions"),
        (dict(question="half a pair \ud800"), "not valid Unicode"),
        (dict(visual_token_num=577), "from 1 to 576"),
        (dict(visual_token_num=-3), "from 1 to 576"),
        (dict(text_token_num=600), "from 0 to 576"),
        (dict(seed=-1), "seed is -1"),
        (dict(seed="x"), "seed is 'x'"),
        (dict(max_new_tokens=0), "max_new_tokens is 0"),
    ],
)
def test_a_bad_sample_says_what_is_wrong(model, settings, says):
    with pytest.raises(UserError, match=says):
        model.answer([dataclasses.replace(sample_of(1), **settings)])


def test_without_an_image_no_caption_model_is_asked(model):
    """It reads 425 tokens; the LLM has room for the question, and for no visual token besides."""
    asked = dataclasses.replace(sample_of(1, max_new_tokens=2), question="word " * 600)
    with pytest.raises(UserError, match="caption model"):
        model.check(asked)
    (answer,) = model.answer([dataclasses.replace(asked, no_image=True)])
    assert answer.compensation is None and answer.kept_idx == []
    blind = dataclasses.replace(asked, no_image=True, visual_token_num=576)
    assert model.prompt_length(blind) == answer.input_length == len(answer.input_ids) - 1


def longest_accepted(model, sample):
    """A sample whose question is as long as the check lets pass."""
    room = model.language_model.context_length - sample.max_new_tokens
    for words in range(room - model.prompt_length(sample), 0, -1):
        # The tower question stays: the caption model reads less than the LLM.
        longer = dataclasses.replace(
            sample,
            question=sample.question + " x" * words,
            tower_question=sample.question_of_the_method,
        )
        try:
            model.check(longer)
        except UserError:
            continue
        return longer
    raise AssertionError("no question is short enough")


@pytest.mark.parametrize("history", [(), (("What?", "a dog"), ("Where?", "there"))])
@pytest.mark.parametrize("reads_ahead", [False, True])
def test_the_longest_question_leaves_room_for_its_caption(model, monkeypatch, history, reads_ahead):
    """Captions of the tiny model go on to their limit: 67 tokens, which are 134 of the LLM's."""
    monkeypatch.setattr(model.language_model.llm.config, "max_position_embeddings", 500)
    monkeypatch.setattr(model, "reads_ahead", reads_ahead)
    sample = longest_accepted(model, sample_of(1, max_new_tokens=5, history=history))
    (answer,) = model.answer([sample])
    heading = model.language_model.tokenizer.encode("additional information:")[1:]
    caption = caption_ids(answer.compensation.chosen_caption, model.language_model.tokenizer)
    assert caption[: len(heading)] == heading and len(caption) > 100
    assert any(answer.input_ids[i : i + len(caption)] == caption for i in range(500))  # all of it
    assert 480 < answer.input_length + sample.max_new_tokens <= 500


def test_a_caption_without_room_is_cut(model, monkeypatch):
    """One id of the caption model may be a text that takes any number of the LLM's."""
    monkeypatch.setattr(model.language_model.llm.config, "max_position_embeddings", 500)
    monkeypatch.setattr(model.compensator, "decode", lambda ids: "\N{SNOWMAN}" * 300)
    sample = longest_accepted(model, sample_of(1, max_new_tokens=5))
    (answer,) = model.answer([sample])
    assert answer.input_length + sample.max_new_tokens == 500
    plain = prompt_ids(sample.question, model.language_model.tokenizer)
    assert answer.input_ids[-20:] == plain[-20:]


def test_a_caption_stands_before_the_question_that_it_was_written_for(model):
    """By hand: one placeholder for the image, and the caption behind the last turn."""
    tokenizer = model.language_model.tokenizer
    caption, image = caption_ids("A dog.", tokenizer), [IMAGE_TOKEN_INDEX]
    system = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: "
    )

    def ids(text):
        return tokenizer.encode(text)[1:]

    start = [tokenizer.bos_token_id, *ids(system), *image]
    one_turn = prompt_ids("What is it?", tokenizer, caption="A dog.")
    assert one_turn == start + ids("\n") + caption + ids("\nWhat is it? ASSISTANT:")[2:]
    assert ids("\nWhat")[: len(ids("\n"))] == ids("\n") and len(ids("\n")) == 2
    two_turns = prompt_ids("What is it?", tokenizer, (("Where?", "There."),), caption="A dog.")
    assert two_turns == (
        start
        + ids("\nWhere? ASSISTANT: There.</s>USER: ")
        + caption
        + ids("\nWhat is it? ASSISTANT:")
    )


@pytest.mark.parametrize(
    "question", ["\x00\x07\x1b bell?", "图中有什么？", "¿Qué es? 🙂", "&amp; <b>"]
)
def test_odd_characters_are_read(model, question):
    (answer,) = model.answer(
        [dataclasses.replace(sample_of(1, max_new_tokens=2), question=question)]
    )
    assert len(answer.out_ids) == 2


def test_prompts_are_what_the_llm_reads_without_its_answer(model):
    image = Image.linear_gradient("L").convert("RGB")
    budgets = (9, model.tower.num_patches)
    samples = [Sample(image, "What?", visual_token_num=k, max_new_tokens=5) for k in budgets]
    prompts, answers = model.prompts(samples), model.answer(samples)
    assert model.prompts([]) == []
    for prompt, answer, sample in zip(prompts, answers, samples):
        assert prompt.input_ids == answer.input_ids and len(prompt.embeds) == answer.input_length
        (found,) = model.language_model.generate([prompt], [sample.max_new_tokens])
        assert found.out_ids == answer.out_ids
