"""Silence as a candidate of the selector: what it is, which files have it, what the LLM reads."""

import json

import pytest
import torch
from PIL import Image

from llava import Accm
from llava.constants import IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.eval.tracing import answer_record
from llava.model.compensation.compensator import CAUTION, SILENCE
from llava.model.compensation.selector import Selector
from llava.model.sample import Sample
from llava.serve.chat import why
from llava.train.provenance import save_weights


@pytest.fixture(scope="module")
def selector_file(model, tmp_path_factory):
    """A selector that is silent where the LLM sees more than half of the tokens."""
    width = model.compensator.selector.head.in_features
    selector = Selector(width, 1, silence=True)
    layer = selector.transformer_encoder.layers[0]
    with torch.no_grad():
        # A layer that adds nothing: a score is the first feature.
        for part in (layer.self_attn.out_proj, layer.linear2):
            part.weight.zero_(), part.bias.zero_()
        selector.head.weight.zero_(), selector.head.bias.zero_(), selector.silence.zero_()
        selector.head.weight[0, 0] = 1
        selector.silence[:, 0] = torch.tensor([-50.0, 100.0])
    path = tmp_path_factory.mktemp("silence") / "selector.pt"
    save_weights(path, selector.state_dict())
    return path


@pytest.fixture(scope="module")
def silent(load_tiny, selector_file):
    return load_tiny(selector=str(selector_file))


@pytest.fixture(scope="module")
def picture():
    return Image.effect_noise((60, 40), 90).convert("RGB")


def test_its_features_depend_on_the_share_that_is_seen():
    torch.manual_seed(0)
    selector = Selector(16, 2, silence=True).eval()
    features = torch.randn(2, 3, 16)
    scores = selector(features, torch.tensor([0.25, 1.0]))
    assert scores.shape == (2, 4)
    silence = selector.silence[0] + torch.tensor([[0.25], [1.0]]) * selector.silence[1]
    plain = Selector(16, 2).eval()
    plain.load_state_dict(selector.state_dict(), strict=False)
    expected = plain(torch.cat([features, silence[:, None]], dim=1))
    assert torch.allclose(scores, expected, atol=1e-6)


def test_a_caption_must_be_the_clearer_better_the_more_is_seen(silent):
    compensator = silent.compensator
    shares = [0.25, 0.5]
    with torch.inference_mode():
        features, scores = compensator.score(["What?"] * 2, [["a", "b"]] * 2, shares)
        plain = compensator.selector(features, torch.tensor(shares)).log_softmax(dim=-1)
    gained = (scores.log() - plain)[:, -1] - (scores.log() - plain)[:, 0]
    assert torch.allclose(gained, CAUTION * torch.tensor(shares) ** 2, atol=1e-3)


def test_without_silence_the_file_is_the_published_one():
    torch.manual_seed(0)
    published = Selector(16, 2).state_dict()
    torch.manual_seed(0)
    with_silence = Selector(16, 2, silence=True).state_dict()
    assert with_silence.pop("silence").shape == (2, 16)
    assert all(torch.equal(published[name], with_silence[name]) for name in with_silence)
    assert published.keys() == with_silence.keys()


def test_what_the_llm_reads_is_without_a_caption_where_silence_is_chosen(
    silent, prune_only, picture
):
    few, many = (
        Sample(picture, "What is it?", visual_token_num=k, max_new_tokens=4) for k in (9, 500)
    )
    told, quiet = silent.answer([few, many])
    assert not told.compensation.is_silent and told.compensation.chosen_caption != SILENCE
    assert quiet.compensation.is_silent and quiet.compensation.captions[3] == SILENCE
    assert len(quiet.compensation.scores) == 4 and sum(quiet.compensation.scores) == pytest.approx(
        1
    )
    (plain,) = prune_only.answer([many])
    assert quiet.input_ids == plain.input_ids and quiet.out_ids == plain.out_ids
    assert quiet.input_ids.count(IMAGE_TOKEN_INDEX) == 1


def test_what_is_shown_of_silence(silent, picture):
    accm = Accm(silent, visual_token_num=500)
    result = accm.answer(picture, "What is it?", max_new_tokens=2)
    assert result.caption == ""
    assert "* 1.000  (no caption)" in why(result.answer, silent.tower.num_patches)
    record = json.loads(json.dumps(answer_record(result.answer)))
    assert record["chosen_index"] == 3 and record["chosen_caption"] == ""
    assert result.figure().size[0] > 0


def test_silence_can_be_switched_off(load_tiny, selector_file, silent, picture):
    """The file's other weights are heeded as before."""
    quiet = load_tiny(selector=str(selector_file), silence=False)
    sample = Sample(picture, "What is it?", visual_token_num=500, max_new_tokens=2)
    (answer,), (other,) = quiet.answer([sample]), silent.answer([sample])
    assert len(answer.compensation.scores) == 3 and not answer.compensation.is_silent
    assert answer.compensation.captions == other.compensation.captions[:3]


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(silence=True), "cannot choose silence.* leave --silence out, or train one"),
        (dict(silence=True, compensation=False), "--silence would do nothing without captions"),
        (dict(silence=False, compensation=False), "--silence would do nothing without captions"),
    ],
)
def test_silence_that_is_not_there_is_refused(load_tiny, settings, message):
    with pytest.raises(UserError, match=message):
        load_tiny(**settings)


def test_a_damaged_silence_is_told(load_tiny, selector_file, tmp_path):
    tensors = torch.load(selector_file, weights_only=True)
    tensors["silence"] = tensors["silence"][:1]
    save_weights(tmp_path / "selector.pt", tensors)
    with pytest.raises(UserError, match="silence"):
        load_tiny(selector=str(tmp_path / "selector.pt"))
