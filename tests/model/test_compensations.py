"""Compensations beside ACCM's own, their sums, and what the LLM makes of them."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from llava.arguments import AskArguments, ModelArguments
from llava.compensations import CAPTIONS, terms_of
from llava.constants import CAPTION_HEADING, IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.eval.arguments import check_method
from llava.eval.caches import Shared
from llava.method import Method, label_of
from llava.model.compensation.merge import Merge, merged
from llava.model.compensation.oracle import read_oracle
from llava.model.compensation.rectify import Rectify, rectified
from llava.model.compensation.sums import Sum, joined
from llava.model.compensation.supplement import PrunedSample, Supplement, TextQuery
from llava.model.multimodal_encoder.visual_tokens import Projected, VisualTokens
from llava.model.prompt_ids import CAPTION_OFFSET, caption_ids, prompt_ids
from llava.model.sample import Sample
from llava.model.token_pruning.pruner import CLS, Pruned

QUESTION = "Is the star red?"
# Token 4 points as token 0 does, token 1 as token 3; token 2 is as near to both kept ones.
FEATURES = torch.tensor([[2.0, 0], [0, 3], [1, 1], [0, 1], [4, 0]])
KEPT = torch.tensor([3, 0])


def pruned_sample(features=FEATURES, kept=KEPT, **pruned):
    image = VisualTokens(features, cls_feature=torch.tensor([0.0, 5]), projected=10 * features)
    reasons = ("kept",) * len(kept)
    return PrunedSample(image, Pruned(len(features), kept, reasons, **pruned), TextQuery("?", "?"))


@pytest.fixture(scope="module")
def everything(load_tiny):
    """The tiny model with a sum of compensations; its terms serve alone too."""
    return load_tiny(compensation="caption+merge+rectify")


@pytest.fixture(scope="module")
def samples():
    pictures = [Image.effect_noise((60, 40), 90).convert("RGB"), Image.new("RGB", (9, 9), "red")]
    settings = dict(max_new_tokens=3, seed=7)
    return [
        Sample(pictures[0], QUESTION, visual_token_num=20, **settings),
        Sample(pictures[1], "What is it?", visual_token_num=64, pruner="uniform", **settings),
        Sample(pictures[0], "Why?", visual_token_num=30, pruner="visionzip", **settings),
        Sample(pictures[0], "Where is it?", visual_token_num=576, **settings),
    ]


# Without words ------------------------------------------------------------------------------------


def test_dropped_tokens_are_averaged_into_the_one_most_like_them():
    """Token 2 is as near to both kept ones: the first of them in the LLM's order gets it."""
    found = merged(pruned_sample()).features
    assert torch.allclose(found, torch.tensor([[1 / 3, 5 / 3], [3.0, 0]]))


def test_what_a_pruner_merged_counts_by_its_tokens_and_is_not_merged_again():
    """The first kept one is the mean of tokens 3 and 1; only 2 and 4 are left to merge."""
    weights = torch.zeros(2, 6)
    weights[0, [4, 2]], weights[1, 1] = 0.5, 1
    found = merged(pruned_sample(weights=weights)).features
    assert torch.allclose(found, torch.tensor([[1 / 3, 5 / 3], [3.0, 0]]))
    behind = merged(pruned_sample(weights=weights, is_projected=True)).features
    assert isinstance(behind, Projected)
    assert torch.allclose(behind.tokens, 10 * found)


def test_a_kept_cls_token_takes_part():
    found = rectified(pruned_sample(kept=torch.tensor([CLS, 0])))
    assert found.position_ids.tolist() == [0, 0]
    # To the CLS (0, 5) go tokens 1, 2 (a tie) and 3.
    assert torch.allclose(found.key_bias.exp(), torch.tensor([4.0, 2]))


def test_rectified_tokens_keep_their_places_and_count_by_their_clusters():
    found = rectified(pruned_sample())
    assert found.position_ids.tolist() == [3, 0]
    assert torch.allclose(found.key_bias, torch.tensor([math.log(3), math.log(2)]))
    assert found.features is None and found.text is None


def test_nothing_dropped_changes_nothing_in_them():
    whole = pruned_sample(kept=torch.arange(5))
    assert torch.equal(merged(whole).features, FEATURES)
    assert torch.equal(rectified(whole).key_bias, torch.zeros(5))


@torch.inference_mode()
def test_the_llm_reads_rectified_tokens_as_transformers_does_with_the_same_mask(
    everything, samples
):
    """Cached steps are what a full pass gives, with positions and biases worked out here."""
    model = everything.with_compensator(Rectify())
    sample, llm = samples[0], model.language_model.llm
    (answer,) = model.answer([sample])
    encoded = model.encode([sample])
    (prompt,) = model.splice(encoded, [answer.pruned], [answer.compensation], [sample])
    start = prompt.input_ids.index(IMAGE_TOKEN_INDEX)
    after = len(prompt.input_ids) - 1 - start
    kept = answer.kept_idx
    positions = [
        *range(start),
        *(start + i for i in kept),
        *(start + 576 + i for i in range(after)),
    ]
    bias = torch.zeros(len(positions))
    bias[start : start + len(kept)] = answer.supplement.key_bias
    assert math.isclose(answer.supplement.key_bias.exp().sum(), 576, rel_tol=1e-5)
    embeds, seen = prompt.embeds, answer.out_ids
    for step, token in enumerate(seen):
        length = len(positions)
        mask = bias.expand(1, 1, length, length).clone()
        mask.masked_fill_(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
        logits = llm(
            inputs_embeds=embeds[None],
            attention_mask=mask,
            position_ids=torch.tensor([positions]),
        ).logits[0, -1]
        if step == 0:
            torch.testing.assert_close(answer.first_logits, logits, rtol=1e-4, atol=1e-5)
        assert logits.argmax() == token
        embeds = torch.cat([embeds, llm.get_input_embeddings()(torch.tensor([token]))])
        positions, bias = [*positions, positions[-1] + 1], torch.cat([bias, torch.zeros(1)])


def test_a_batch_of_all_of_them_gives_what_each_gives_alone(everything, samples):
    together = everything.answer(samples)
    for sample, answer in zip(samples, together):
        (alone,) = everything.answer([sample])
        assert alone.out_ids == answer.out_ids and alone.input_ids == answer.input_ids
        torch.testing.assert_close(alone.first_logits, answer.first_logits, rtol=1e-4, atol=1e-4)
        if answer.supplement is not None:
            assert torch.equal(alone.supplement.features, answer.supplement.features)
            assert torch.equal(alone.supplement.key_bias, answer.supplement.key_bias)
    assert [answer.supplement is None for answer in together] == [False, False, False, True]


def test_merged_tokens_are_what_the_llm_reads(everything, samples):
    model = everything.with_compensator(Merge())
    plain = everything.without_captions()
    ((prompt,), (other,)) = model.prompts(samples[:1]), plain.prompts(samples[:1])
    assert prompt.input_ids == other.input_ids and not torch.equal(prompt.embeds, other.embeds)
    (answer,) = model.answer(samples[:1])
    start = prompt.system_length
    expected = model.language_model.project(answer.supplement.features)
    assert torch.allclose(prompt.embeds[start : start + 20], expected, atol=1e-6)


# In words -----------------------------------------------------------------------------------------


def test_caption_is_the_first_candidate_of_the_selector(everything, model, samples):
    alone = everything.compensator.terms["caption"]
    (first,) = everything.with_compensator(alone).answer(samples[:1])
    (chosen,) = model.answer(samples[:1])
    assert first.supplement.text == chosen.compensation.captions[0]
    assert first.written.captions == chosen.written.captions
    assert "select" not in first.seconds and "caption" in first.seconds


def oracle_file(tmp_path, text):
    path = tmp_path / "texts"
    path.write_text(text, "utf-8")
    return path


def test_a_text_of_the_oracle_stands_at_the_captions_place(everything, samples, tmp_path):
    oracle = read_oracle(oracle_file(tmp_path, '{"7": "A red star.", "8": ""}'))
    model = everything.with_compensator(oracle)
    told, untold = (replace(samples[0], id=id) for id in (7, "8"))
    answers = model.answer([told, untold])
    tokenizer = model.language_model.tokenizer
    plain, ids = prompt_ids(QUESTION, tokenizer), caption_ids("A red star.", tokenizer)
    end = plain.index(IMAGE_TOKEN_INDEX) + CAPTION_OFFSET
    assert answers[0].input_ids == plain[:end] + ids + plain[end:]
    assert answers[1].input_ids == plain
    assert answers[0].supplement.told == "A red star."


@pytest.mark.parametrize(
    "text",
    [
        '[{"question_id": 7, "text": "yes"}]',
        '{"7": "yes"}',
        '{"question_id": "7", "text": "yes"}',
        '{"question_id": 7, "text": "yes"}\n{"question_id": 8, "text": "no"}\n',
        '{"image": "far/away/a.png", "question": "Is it?", "text": "yes"}',
    ],
)
def test_forms_of_an_oracles_file(tmp_path, text):
    oracle = read_oracle(oracle_file(tmp_path, text))
    (found,) = oracle([replace(pruned_sample(), query=TextQuery("Is it?", "Is it?\n", 7, "a.png"))])
    assert found.text == "yes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no texts: write"),
        ('{"a": 5}', "entry 1 of"),
        ('[{"text": "yes"}]', 'with "text" and "question_id"'),
        ('[{"text": "yes", "question_id": true}]', "entry 1 of"),
        (
            '{"text": "a", "question_id": 1}\n{"text": "b", "question_id": 1}',
            "another text for the",
        ),
        ('{"text": "a", "question_id": 1}\n{"text', "line 2 of"),
        ("[", "is not JSON"),
        ("5", "entry 1 of"),
    ],
)
def test_oracles_that_cannot_be_read(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_oracle(oracle_file(tmp_path, text))


def test_a_question_that_an_oracle_does_not_know(everything, samples, tmp_path):
    model = everything.with_compensator(read_oracle(oracle_file(tmp_path, '{"7": "A star."}')))
    for sample, named in (
        (replace(samples[0], id="x"), "the question 'x'"),
        (replace(samples[0], image_name="a.png"), "image 'a.png' with 'Is the star red"),
        (samples[0], "without id and image"),
    ):
        with pytest.raises(UserError, match=named):
            model.answer([sample])
    assert model.answer([replace(samples[3], id="x")])[0].text is not None  # nothing is dropped


# Sums and names -----------------------------------------------------------------------------------


def test_texts_are_joined_with_the_headings_of_the_later_ones():
    both = joined(
        [Supplement(" A cat.", (" A cat.", "b"), (0.9, 0.1), 0), Supplement(), Supplement("A dog.")]
    )
    assert (both.heading, both.text) == (CAPTION_HEADING, f"A cat. {CAPTION_HEADING} A dog.")
    assert both.candidates == (" A cat.", "b") and both.chosen == 0
    assert joined([Supplement(" A cat."), Supplement()]).text == " A cat."
    assert joined([Supplement(), Supplement(features=FEATURES)]).text is None


def test_two_that_give_the_same_are_refused_by_name():
    with pytest.raises(UserError, match="merge and other both give features"):
        Sum({"merge": Merge(), "other": Merge()})


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        (True, (CAPTIONS,)),
        ("no", ()),
        ("none", ()),
        ("caption", ("caption",)),
        ("caption+selector+merge", (CAPTIONS, "merge")),
        ("merge+caption+selector", ("merge", CAPTIONS)),
        ("oracle+caption", ("oracle", "caption")),
    ],
)
def test_names_of_sums(name, terms):
    assert terms_of(name) == terms


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "merg",
            r"no compensation 'merg' \(did you mean merge\?\): use caption\+selector, caption,",
        ),
        ("selector", "no compensation 'selector'"),
        ("caption+", "no compensation ''"),
        ("merge+merge", "names merge twice"),
        ("none+merge", "gives nothing back"),
    ],
)
def test_names_of_no_compensation(name, message):
    with pytest.raises(UserError, match=message):
        terms_of(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compensation": "oracle"}, "no file of texts is named: name one with --oracle FILE"),
        ({"compensation": "oracle", "oracle": "nowhere.json"}, "no file nowhere.json: name one"),
        ({"oracle": "a.json"}, "--oracle would do nothing without --compensation oracle"),
        ({"compensation": "caption", "silence": True}, "--silence would do nothing without"),
        ({"compensation": "merge+rectif"}, "no compensation 'rectif'"),
    ],
)
def test_settings_that_cannot_be_loaded(load_tiny, settings, message):
    with pytest.raises(UserError, match=message):
        load_tiny(**settings)


def test_another_engine_cannot_rectify(everything, samples):
    with pytest.raises(UserError, match="the compensation works inside the LLM"):
        everything.prompts(samples[:1])


def test_beams_are_refused_where_positions_change(everything, samples):
    with pytest.raises(UserError, match="use num_beams 1"):
        everything.answer([replace(samples[0], num_beams=2)])


@pytest.mark.parametrize(
    ("pruner", "compensation", "label"),
    [
        ("accm", CAPTIONS, "accm"),
        ("accm", "none", "prune"),
        ("accm", "merge", "accm with merge"),
        ("mmtok", "merge", "accm+"),
        ("mmtok", CAPTIONS, "mmtok with captions"),
        ("random", CAPTIONS, "random with captions"),
        ("fastervlm", "caption", "fastervlm with caption"),
        ("fastervlm", "none", "fastervlm"),
    ],
)
def test_labels(pruner, compensation, label):
    assert label_of(Method(pruner=pruner), compensation, 9, 576) == label


def test_a_model_takes_other_compensations_without_loading_the_rest(tiny_settings, tmp_path):
    """Each loads its own files alone: LongCLIP and selector are nowhere needed for a caption."""
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"7": "A star."}), "utf-8")
    args = ModelArguments(**tiny_settings, compensation="caption+oracle", oracle=str(texts))
    assert args.compensation_parts == ("gpt2", "caption_model", "oracle")
    assert ModelArguments(**tiny_settings, compensation="merge+rectify").compensation_parts == ()
    shared = Shared(compensation=False)
    plain = shared.load(ModelArguments(**tiny_settings, compensation="none"))
    model = shared.load(args)
    assert plain.compensator is None and list(model.compensator.terms) == ["caption", "oracle"]
    assert model.tower is plain.tower and shared.load(args) is model
    assert not any(p.requires_grad for p in model.parameters()) and not model.training


@pytest.mark.parametrize("nothing", [{"pruner": "none"}, {"pruner": "zero"}, {"no_image": True}])
def test_a_compensation_without_effect_is_refused(tiny_settings, nothing):
    with pytest.raises(UserError, match="--compensation merge has no effect with --"):
        check_method(AskArguments(**tiny_settings, **nothing, compensation="merge"))
    check_method(AskArguments(**tiny_settings, **nothing))  # as ever
