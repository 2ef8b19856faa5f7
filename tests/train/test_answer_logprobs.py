"""What the LLM makes of a reading: probabilities and whether it would write the answer itself."""

import pytest
import torch

from llava.train.packing import Packer, Reading, answer_log_probs, is_likeliest
from tests.helpers.plain import IdPacker, prompt

QUESTION = "Is there a dog?\nAnswer the question using a single word or phrase."


@pytest.fixture(scope="module")
def readings():
    features = torch.randn(30, 64, generator=torch.Generator().manual_seed(0))
    return [
        Reading(features, None, QUESTION, "yes"),
        Reading(features[:5], "A cat on a road.", QUESTION, "no"),
        Reading(features[7:10], None, "What color is the cat?", "dark yellow"),
        Reading(features[:0], "A dog.", "Where?\nA. left\nB. right", "B"),
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@torch.no_grad()
def test_log_probs_are_those_of_a_plain_forward(model, readings, batch_size):
    language_model = model.language_model
    packer = Packer(language_model.tokenizer)
    found = answer_log_probs(language_model, packer, readings, batch_size)
    for reading, log_probs in zip(readings, found, strict=True):
        ids = packer.answer_ids(reading.answer)
        assert ids[-1] == language_model.tokenizer.eos_token_id
        answer = language_model.llm.get_input_embeddings()(torch.tensor(ids[:-1]))
        embeds = torch.cat([prompt(language_model, reading).embeds, answer])[None]
        logits = language_model.llm(inputs_embeds=embeds).logits[0, -len(ids) :]
        assert log_probs.shape == logits.shape
        assert torch.allclose(log_probs, logits.log_softmax(dim=-1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_likeliest_is_what_greedy_decoding_writes(model, readings):
    language_model = model.language_model
    packer = IdPacker(language_model.tokenizer)
    prompts = [prompt(language_model, reading) for reading in readings]
    for reading, written in zip(readings, language_model.generate(prompts, [6] * len(prompts))):
        ids = written.out_ids
        for place in range(len(ids) + 1):  # the answer itself, and each token changed in turn
            other = [i + 7 * (j + 1 == place) for j, i in enumerate(ids)]
            answer = " ".join(map(str, other))
            asked = Reading(reading.features, reading.caption, reading.question, answer)
            (log_probs,) = answer_log_probs(language_model, packer, [asked], 1)
            assert is_likeliest(log_probs, other) == (other == ids)
