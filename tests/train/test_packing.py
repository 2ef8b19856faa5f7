"""Packed questions are read exactly as the pipeline reads each of them alone."""

import pytest
import torch

from llava.constants import IMAGE_TOKEN_INDEX
from llava.model.sample import Sample
from llava.train.packing import IGNORED, Packer, collate, predict, run_llm

PAIRS = [
    ("Is there a dog?\nAnswer the question using a single word or phrase.", "no"),
    ("What color is the cat that sits on the left side of the road?", "dark yellow"),
    ("Where is the cat?\nA. left\nB. right", "B"),
]
SIGHTS = ("full", "pruned", "compensated", "nothing")


@pytest.fixture(scope="module")
def language_model(model):
    return model.language_model


@pytest.fixture(scope="module")
def packer(language_model):
    return Packer(language_model.tokenizer)


@pytest.fixture(scope="module")
def read(model, bundled):
    """What each question is read as by the pipeline: (features, caption, [Prompt]) by sight.

    The three share the tokens and the caption of the first, as in a packed sequence.
    """
    image = bundled.samples(bundled.json("accm_cases.json")[:1])[0].image

    def stages(**fields):
        samples = [Sample(image, question, **fields) for question, _ in PAIRS]
        with torch.no_grad():
            encoded = model.encode(samples)
            first = model.prune(encoded[:1], samples[:1])
            written = model.compensate(encoded[:1], first, samples[:1])
        return samples, encoded, first[0], written[0]

    def reading(sight):
        count = model.tower.num_patches if sight in ("full", "nothing") else 9
        fields = dict(visual_token_num=count, no_image=sight == "nothing")
        samples, encoded, selection, written = stages(**fields)
        features = encoded[0].image.features
        features = features[:0] if sight == "nothing" else features
        features = features if selection is None else features[selection.kept_idx]
        written = written if sight == "compensated" else None
        spliced = model.splice(encoded, [selection] * 3, [written] * 3, samples)
        return features, written and written.chosen_caption, spliced

    return {sight: reading(sight) for sight in SIGHTS}


def alone(language_model, packer, spliced, answer):
    """The LLM's logits at the answer's tokens behind the pipeline's own input."""
    ids = packer.answer_ids(answer)
    embeds = torch.cat(
        [spliced.embeds, *language_model.embed([[IMAGE_TOKEN_INDEX, *ids[:-1]]], [NONE])]
    )
    return language_model.llm(inputs_embeds=embeds[None]).logits[0, -len(ids) :]


NONE = torch.zeros(0, 64)  # no visual tokens, of the tiny tower's width


def packed_logits(language_model, batch):
    """Logits at the answers' tokens, a tensor for each."""
    hidden = run_llm(language_model.llm, language_model.projector, batch)
    logits, labels = predict(language_model.llm, hidden, batch.labels)
    ends = (labels == language_model.tokenizer.eos_token_id).nonzero()[:, 0].tolist()
    return logits.tensor_split([end + 1 for end in ends][:-1])


@pytest.mark.parametrize("sight", SIGHTS)
@torch.no_grad()
def test_each_question_is_read_as_alone(language_model, packer, read, sight):
    features, caption, spliced = read[sight]
    batch = collate([packer.pack(PAIRS, len(features), caption)], [features])
    found = packed_logits(language_model, batch)
    assert len(found) == len(PAIRS)
    for (_, answer), logits, one in zip(PAIRS, found, spliced):
        expected = alone(language_model, packer, one, answer)
        assert torch.allclose(logits, expected, rtol=0, atol=1e-5)
        assert expected.std() > 0.1  # 1e-5 is small beside what the logits say


@torch.no_grad()
def test_padding_and_neighbours_do_not_matter(language_model, packer, read):
    long, short = read["compensated"], read["nothing"]
    several = packer.pack(PAIRS, len(long[0]), long[1])
    single = packer.pack(PAIRS[:1], 0, None)
    together = collate([single, several], [short[0], long[0]])
    found = packed_logits(language_model, together)
    apart = packed_logits(language_model, collate([single], [short[0]]))
    apart += packed_logits(language_model, collate([several], [long[0]]))
    assert len(found) == len(apart) == 4
    for one, other in zip(found, apart):
        assert torch.allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sight", SIGHTS)
def test_ids_and_labels_are_the_pipelines(packer, read, sight):
    """Question by question: what is read is the prompt, what is asked for is what follows."""
    features, caption, spliced = read[sight]
    packed = packer.pack(PAIRS, len(features), caption)
    common = [i for i, block in enumerate(packed.blocks) if block == 0]
    for number, ((_, answer), one) in enumerate(zip(PAIRS, spliced), start=1):
        own = [i for i, block in enumerate(packed.blocks) if block == number]
        place = one.input_ids.index(IMAGE_TOKEN_INDEX)
        prompt = one.input_ids[:place] + [IMAGE_TOKEN_INDEX] * len(features)
        prompt += one.input_ids[place + 1 :]
        whole = prompt + packer.answer_ids(answer)
        assert [packed.ids[i] for i in common + own] == whole[:-1]
        assert [packed.positions[i] for i in common + own] == list(range(len(whole) - 1))
        following = whole[len(common) + 1 :]
        asked = len(prompt) - len(common) - 1  # the question's tokens but the first
        assert [packed.asked[i] for i in own] == following[:asked] + [IGNORED] * (len(own) - asked)
        assert [packed.labels[i] for i in own] == [IGNORED] * asked + following[asked:]
    assert all(packed.labels[i] == packed.asked[i] == IGNORED for i in common)


def test_what_a_token_sees(packer):
    """By hand: prompt p, two questions a and b; the shorter sequence is padded with -."""
    long, short = packer.pack(PAIRS[:2], 0, None), packer.pack(PAIRS[:1], 0, None)
    first = long.blocks.index(1)
    second = long.blocks.index(2)
    mask = collate([short, long], [torch.zeros(0, 4)] * 2).mask
    assert mask.shape == (2, 1, len(long.ids), len(long.ids))
    for token in (first - 1, first, second - 1, second, len(long.ids) - 1):
        seen = set(range(min(token + 1, first)))
        seen |= set(range(first if token < second else second, token + 1))
        assert mask[1, 0, token].nonzero()[:, 0].tolist() == sorted(seen)
    end = len(short.ids)
    assert torch.equal(mask[0, 0, :end, :end], torch.ones(end, end).tril().bool())
    assert not mask[0, 0, :end, end:].any()
    assert mask.any(dim=-1).all()  # an empty row would be NaN


def test_weights_are_tokens_of_answers(packer):
    sequences = [packer.pack(PAIRS, 0, None), packer.pack(PAIRS[1:2], 0, "a cat.")]
    lengths = [len(packer.answer_ids(answer)) for _, answer in PAIRS]
    assert collate(sequences, [torch.zeros(0, 4)] * 2).weight == sum(lengths) + lengths[1]
