"""What prompts share is read once, and no answer changes by it."""

import copy
import functools
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from llava.model.cuda import AsyncStopFlag
from llava.model.language_model import llava_llama
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.sample import Sample

QUESTIONS = ["What is it?", "Where is the small one?", "Is there a dog in the picture? Look well."]
MANY = 576


def image_of(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def samples_of(*images, **settings):
    settings = dict(max_new_tokens=5) | settings
    return [Sample(image, question, **settings) for image in images for question in QUESTIONS]


@pytest.fixture
def reads(model, monkeypatch):
    """Gets the shape (B, L) of each pass of the LLM: how often a thing was read, and no more."""
    llm, shapes = model.language_model.llm, []
    forward = llm.forward

    def watched(**inputs):
        shapes.append(tuple(inputs["inputs_embeds"].shape[:2]))
        return forward(**inputs)

    monkeypatch.setattr(llm, "forward", watched)
    return shapes


def plain_answers(model, samples):
    """Answers by transformers' own generate: nothing shared."""
    encoded = model.encode(samples)
    selections = model.prune(encoded, samples)
    written = model.compensate(encoded, selections, samples)
    language_model, found = model.language_model, []
    for prompt, sample in zip(model.splice(encoded, selections, written, samples), samples):
        ids = language_model.llm.generate(
            inputs_embeds=prompt.embeds[None],
            attention_mask=torch.ones(1, len(prompt.embeds), dtype=torch.long),
            max_new_tokens=sample.max_new_tokens,
            do_sample=False,
            eos_token_id=language_model.end_id,
            pad_token_id=0,
        )
        found.append(ids[0].tolist())
    return found


@torch.inference_mode()
@pytest.mark.parametrize("budget", [36, MANY])
def test_answers_are_those_of_transformers_generate(model, budget):
    samples = samples_of(image_of(1), image_of(2), visual_token_num=budget)
    answers = model.answer(samples)
    assert [answer.out_ids for answer in answers] == plain_answers(model, samples)


def test_the_system_prompt_is_read_once(model, reads):
    sample = samples_of(image_of(1), visual_token_num=36)[0]
    memory = Memory()
    first, second = (model.answer([sample], memory=memory)[0] for _ in range(2))
    system = first.input_ids.index(-200)
    assert reads.count((1, system)) == 1  # docs/performance.md promises it
    assert second.out_ids == first.out_ids
    assert torch.equal(second.first_logits, first.first_logits)


def test_questions_on_one_image_share_its_tokens(model, reads):
    samples = samples_of(image_of(3), visual_token_num=MANY)
    memory = Memory()
    together = model.answer(samples, memory=memory)
    assert sum(rows for rows, length in reads if length >= MANY) == 1  # so performance.md says
    reads.clear()
    again = model.answer(samples, memory=memory)  # the image is remembered
    assert max(shape[1] for shape in reads) < MANY
    # Without the memory nothing is.
    alone = [model.answer([sample])[0] for sample in samples]
    for answers in (again, alone):
        assert [a.out_ids for a in answers] == [a.out_ids for a in together]
        for one, other in zip(answers, together):
            assert torch.allclose(one.first_logits, other.first_logits, rtol=0, atol=1e-4)


def test_an_image_that_was_read_with_a_question_serves_the_next(model, reads):
    first, second, _ = samples_of(image_of(4), visual_token_num=MANY)
    memory = Memory()
    model.answer([first], memory=memory)
    reads.clear()
    (warm,) = model.answer([second], memory=memory)
    assert max(shape[1] for shape in reads) < MANY
    (cold,) = model.answer([second])
    assert warm.out_ids == cold.out_ids
    assert torch.allclose(warm.first_logits, cold.first_logits, rtol=0, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("text_token_num", [None, 0])
def test_pruned_questions_on_one_image_are_answered_as_alone(model, text_token_num):
    """Where the questions pick tokens each has its own; where none does, all have the same."""
    settings = {"visual_token_num": 36, "text_token_num": text_token_num}
    samples = samples_of(image_of(5), **settings)
    together = model.answer(samples)
    assert [answer.out_ids for answer in together] == plain_answers(model, samples)
    kept = [answer.kept_idx for answer in together]
    assert kept == [model.answer([sample])[0].kept_idx for sample in samples]
    assert (kept[0] == kept[1] == kept[2]) == (text_token_num == 0)


def test_prompts_of_very_different_lengths_are_answered_as_alone(model):
    samples = [
        Sample(image_of(seed), QUESTIONS[seed % 3], visual_token_num=budget, max_new_tokens=4)
        for seed, budget in ((6, MANY), (7, 2), (8, 70), (9, 36), (10, 300))
    ]
    for one, alone in zip(model.answer(samples), (model.answer([s])[0] for s in samples)):
        assert one.out_ids == alone.out_ids
        assert torch.allclose(one.first_logits, alone.first_logits, rtol=0, atol=1e-4)


def rebuilt(model, **settings):
    """The model with every part shared, put together again."""
    language_model = settings.pop("language_model", model.language_model)
    backbone = model.backbone.with_language_model(language_model)
    return LlavaAccm(backbone, model.compensator, model.text_selection, **settings).eval()


def test_reading_ahead_of_the_caption_changes_nothing(model, reads):
    ahead = rebuilt(model, reads_ahead=True)
    samples = samples_of(image_of(8), visual_token_num=36) + samples_of(
        image_of(9), visual_token_num=MANY
    )
    expected, plain = model.answer(samples), reads.copy()
    reads.clear()
    found = ahead.answer(samples)
    assert reads != plain  # something was read ahead
    assert [a.out_ids for a in found] == [a.out_ids for a in expected]
    for one, other in zip(found, expected):
        assert torch.allclose(one.first_logits, other.first_logits, rtol=0, atol=1e-4)


def test_reading_ahead_where_the_question_has_no_say(model):
    samples = samples_of(image_of(8), visual_token_num=36, text_token_num=0)
    expected = model.answer(samples)
    found = rebuilt(model, reads_ahead=True).answer(samples)
    assert [a.out_ids for a in found] == [a.out_ids for a in expected]


def test_one_step_too_many_does_no_harm(model, monkeypatch):
    """On a GPU the end of a text is seen a step late."""
    samples = samples_of(image_of(2), image_of(3), visual_token_num=36, max_new_tokens=20)
    expected = model.answer(samples)
    late = functools.partial(AsyncStopFlag, lag=1)
    monkeypatch.setattr(llava_llama, "AsyncStopFlag", late)
    found = model.answer(samples)
    assert [a.out_ids for a in found] == [a.out_ids for a in expected]


def test_an_answer_may_go_on_to_its_limit(model):
    whole = model.language_model
    endless = LanguageModel(whole.llm, whole.projector, whole.tokenizer, end_id=-1)
    samples = samples_of(image_of(2), visual_token_num=36, max_new_tokens=30)
    answers = rebuilt(model, language_model=endless).answer(samples)
    assert [len(answer.out_ids) for answer in answers] == [30] * len(samples)


def test_an_answer_ends_where_its_reader_wants_no_more(model, reads):
    """The others go on, and a batch that nobody reads costs no further pass."""
    whole = model.language_model
    endless = LanguageModel(whole.llm, whole.projector, whole.tokenizer, end_id=-1)
    endless = rebuilt(model, language_model=endless)
    samples = samples_of(image_of(2), visual_token_num=36, max_new_tokens=9)
    expected = [answer.out_ids for answer in endless.answer(samples)]
    told = [[] for _ in samples]

    def tell(place, token):
        told[place].append(token)
        return len(told[place]) == (2, 9, 4)[place]

    found = [answer.out_ids for answer in endless.answer(samples, on_token=tell)]
    assert found == told == [expected[0][:2], expected[1], expected[2][:4]]
    reads.clear()
    endless.answer(samples, on_token=lambda place, token: True)
    assert sum(length == 1 for _, length in reads) == 0


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++")
def test_compiled_answers_are_the_same(model):
    """Graphs of fixed lengths, used again for other prompts: the same ids, eagerly or compiled.

    Of an LLM of one layer, because the time goes to the compiler, once for each layer.
    """
    whole = model.language_model
    llm = copy.deepcopy(whole.llm)
    llm.model.layers, llm.config.num_hidden_layers = llm.model.layers[:1], 1
    parts = llm, whole.projector, whole.tokenizer
    eager, compiled = (
        rebuilt(model, language_model=LanguageModel(*parts, graphs=graphs))
        for graphs in (False, True)
    )
    for seed in (10, 20):  # three prompts of one length, which are filled up to four
        settings = dict(visual_token_num=36, max_new_tokens=3 + seed // 20)
        samples = [Sample(image_of(seed + i), QUESTIONS[0], **settings) for i in range(3)]
        expected, found = eager.answer(samples), compiled.answer(samples)
        assert [a.out_ids for a in found] == [a.out_ids for a in expected]
        for one, other in zip(found, expected):
            assert torch.allclose(one.first_logits, other.first_logits, rtol=0, atol=1e-4)
