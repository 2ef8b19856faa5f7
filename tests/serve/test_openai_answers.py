"""What the server answers: the pipeline's own answers, in OpenAI's form."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.sample import Sample
from llava.serve.openai.text import AnswerText
from tests.helpers.chat_client import data_url, message, png

STAR = "What color is the star?"
LONG = "Provide a one-sentence caption for the provided image."


@pytest.fixture(scope="module")
def pictures():
    return [draw_scene(make_scene(scene_generator(5, "test", n))) for n in range(4)]


@pytest.fixture(scope="module")
def picture(scene):
    return Image.open(io.BytesIO(scene)).convert("RGB")


def answered(model, *samples):
    return model.answer(list(samples))


def content(completion):
    return completion["choices"][0]["message"]["content"]


def test_concurrent_answers_are_the_pipelines_own(server, mini, pictures):
    """Of different images, budgets, pruners and lengths, in whatever batches they come."""
    generator = np.random.default_rng(0)
    samples = [
        Sample(
            pictures[generator.integers(len(pictures))],
            [STAR, "What is on the left?", LONG][generator.integers(3)],
            visual_token_num=int((9, 18, 36, 144)[place % 4]),
            pruner=("accm", "accm", "random", "vispruner")[generator.integers(4)],
            max_new_tokens=int(generator.integers(1, 20)),
        )
        for place in range(20)
    ]

    def ask(sample):
        accm = {"visual_token_num": sample.visual_token_num, "pruner": sample.pruner}
        return server.ask(
            sample.question,
            png(sample.image),
            accm=accm | {"explain": True},
            max_tokens=sample.max_new_tokens,
        )

    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(ask, samples))
    for sample, one in zip(samples, found):
        (own,) = answered(mini, sample)
        assert (content(one), one["accm"]["kept_idx"]) == (own.text, own.kept_idx)
        assert one["usage"]["completion_tokens"] == len(own.out_ids)
        assert one["usage"]["prompt_tokens"] == own.input_length


def test_a_stream_is_the_answer_in_pieces(server, scene):
    whole = server.ask(STAR, scene, accm={"explain": True})
    options = {"include_usage": True}
    pieces = list(server.stream(STAR, scene, stream_options=options, accm={"explain": True}))
    *parts, last, usage = pieces
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [piece["choices"][0]["delta"] for piece in parts]
    assert "".join(delta["content"] for delta in deltas) == content(whole)
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert last["accm"]["kept_idx"] == whole["accm"]["kept_idx"]
    assert len({piece["id"] for piece in pieces}) == 1
    assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}


def test_several_turns_are_a_conversation(server, mini, picture, scene):
    turns = [message(STAR, data_url(scene)), {"role": "assistant", "content": "black"}]
    messages = [*turns, message("What size is the star?")]
    found = server.post({"model": "accm-mini", "messages": messages, "max_tokens": 9}).json()
    (own,) = answered(
        mini,
        Sample(
            picture,
            "What size is the star?",
            history=((STAR, "black"),),
            visual_token_num=36,
            max_new_tokens=9,
        ),
    )
    assert content(found) == own.text
    assert found["usage"]["prompt_tokens"] == own.input_length


def test_an_answer_of_the_official_client_may_be_sent_back(server, scene):
    """With the fields without a value that its objects have."""
    names = ("refusal", "annotations", "audio", "function_call", "tool_calls")
    said = {"role": "assistant", "content": "black"} | dict.fromkeys(names)
    messages = [message(STAR, data_url(scene)), said, message("What size is the star?")]
    value = {"model": "accm-mini", "messages": messages}
    assert server.post(value).status_code == 200
    said["tool_calls"] = [{}]
    assert server.refused(value)["param"] == "messages[1].tool_calls"


def test_the_model_by_its_name(server):
    (model,) = server.http.get("/v1/models").json()["data"]
    assert server.http.get("/v1/models/accm-mini").json() == model
    response = server.http.get("/v1/models/gpt%2F4")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert server.http.delete("/v1/models/accm-mini").status_code == 405


def test_no_prompt_is_tokenized_where_all_answers_pass(server, scene, monkeypatch):
    """The event loop, which a long question would hold up."""
    threads = set()
    encode = LlamaTokenizer.encode

    def watched(self, text):
        threads.add(threading.current_thread().name)
        return encode(self, text)

    monkeypatch.setattr(LlamaTokenizer, "encode", watched)
    assert server.ask(STAR, scene)["usage"]["prompt_tokens"] > 36
    assert "model" in threads and "server" not in threads


def test_the_models_own_system_prompt_may_be_sent(server, scene):
    system = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions."
    )
    messages = [{"role": "system", "content": system}, message(STAR, data_url(scene))]
    assert content(server.post({"model": "accm-mini", "messages": messages}).json()) == "black"


@pytest.mark.parametrize("stop", ["cross", ["zzz", "and"]])
def test_a_text_that_ends_the_answer(server, mini, picture, scene, stop):
    (own,) = answered(mini, Sample(picture, LONG, visual_token_num=36, max_new_tokens=16))
    stops = [stop] if isinstance(stop, str) else stop
    places = [own.text.find(each) for each in stops if each in own.text]
    assert places, own.text
    found = server.ask(LONG, scene, stop=stop)
    assert content(found) == own.text[: min(places)].rstrip()
    assert found["choices"][0]["finish_reason"] == "stop"
    pieces = server.stream(LONG, scene, stop=stop)
    text = "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces)
    assert text == content(found)


def test_a_limit_ends_the_answer(server, mini, picture, scene):
    (own,) = answered(mini, Sample(picture, LONG, visual_token_num=36, max_new_tokens=3))
    found = server.ask(LONG, scene, max_tokens=3)
    assert (content(found), found["choices"][0]["finish_reason"]) == (own.text, "length")
    assert (
        server.ask(LONG, scene, max_tokens=None, max_completion_tokens=3)["choices"]
        == (found["choices"])
    )


def test_drawn_answers_depend_on_their_seed(server, mini, picture, scene):
    sample = Sample(picture, LONG, visual_token_num=36, temperature=2.0, max_new_tokens=16)
    texts = set()
    for seed in (1, 2):
        (own,) = answered(mini, replace(sample, seed=seed))
        assert server.text(LONG, scene, temperature=2.0, seed=seed) == own.text
        assert server.text(LONG, scene, temperature=2.0, accm={"seed": seed}) == own.text
        texts.add(own.text)
    assert len(texts) == 2


def test_an_explanation_and_the_parts_of_a_prompt(server, mini, picture, scene):
    (own,) = answered(mini, Sample(picture, STAR, visual_token_num=9, max_new_tokens=16))
    found = server.ask(STAR, scene, accm={"visual_token_num": 9, "explain": True})
    why, given = found["accm"], own.supplement
    assert why["kept_idx"] == own.kept_idx and why["reasons"] == list(own.pruned.reasons)
    assert why["caption"] == given.told and why["chosen"] == given.chosen
    assert why["candidates"] == [text.strip() for text in given.candidates]
    assert why["scores"] == pytest.approx(given.scores, abs=1e-5)
    assert {"encode", "prune", "splice", "generate"} <= set(why["seconds"])
    # Positions: the prompt without its image and caption, 9 visual tokens, and the caption.
    (bare,) = answered(mini, Sample(picture, STAR, no_image=True, max_new_tokens=16))
    caption = own.input_length - 9 - bare.input_length
    assert found["usage"]["prompt_tokens_details"] == {
        "visual_tokens": 9,
        "dropped_visual_tokens": 135,
        "caption_tokens": caption,
    }
    assert caption > 0


def test_other_ways_to_prune_and_no_compensation(server, mini, picture, scene):
    sample = Sample(picture, STAR, visual_token_num=9, max_new_tokens=16)
    without = mini.without_captions()
    for fields, own in (
        ({"compensation": "none"}, answered(without, sample)),
        ({"pruner": "none", "visual_token_num": None}, answered(mini, full(sample))),
        ({"pruner": "zero"}, answered(mini, replace(sample, pruner="zero"))),
        ({"text_token_num": 3}, answered(mini, replace(sample, text_token_num=3))),
    ):
        accm = {"visual_token_num": 9, "explain": True} | fields
        found = server.ask(STAR, scene, accm=accm)
        assert (content(found), found["accm"]["kept_idx"]) == (own[0].text, own[0].kept_idx)


def full(sample):
    return replace(sample, pruner="none", visual_token_num=None)


# The text of an answer ---------------------------------------------------------------------------

PIECES = {0: "a", 1: " b", 2: "\n", 3: " ", 4: "END", 5: "\N{REPLACEMENT CHARACTER}", 6: "ä"}


def decoded(ids):
    text = "".join(PIECES[i] for i in ids)
    return text.replace("\N{REPLACEMENT CHARACTER}" * 2, "ä")


def pieces_of(ids, stop=()):
    text = AnswerText(decoded, stop)
    given = [text.add(token) for token in ids]
    return [*given, text.end()], text.text


@pytest.mark.parametrize(
    ("ids", "stop", "pieces"),
    [
        ([0, 1, 3, 3], (), ["a", " b", "", "", ""]),
        ([3, 2, 0, 2, 0], (), ["", "", "a", "", "\na", ""]),
        ([0, 5, 5, 0], (), ["a", "", "ä", "a", ""]),
        ([0, 5], (), ["a", "", "\N{REPLACEMENT CHARACTER}"]),
        ([0, 1, 4, 0], ("END",), ["a", " b", "", "", ""]),
        ([0, 0, 1], ("aab",), ["", "", "aa b", ""]),
        ([0, 1, 0, 1], ("a b",), ["", "", "", "", ""]),
        ([0, 3, 6, 3, 0, 1], ("a b",), ["", "", "a ä", "", "", "", ""]),
        ([0, 0, 1], ("aa b",), ["", "", "", ""]),
        ([1, 2, 0], ("\na",), ["b", "", "", ""]),
    ],
)
def test_pieces_of_a_text(ids, stop, pieces):
    found, whole = pieces_of(ids, stop)
    assert found == pieces and "".join(found) == whole


def test_pieces_are_the_text_wherever_it_is_cut():
    generator = np.random.default_rng(1)
    for _ in range(300):
        ids = generator.integers(0, len(PIECES), 40).tolist()
        stop = [("a b",), ("END", "\n a"), ("ä",), ()][generator.integers(4)]
        found, whole = pieces_of(ids, stop)
        assert "".join(found) == whole and (stop or whole == decoded(ids).strip())
        assert not any(each in whole for each in stop)
