"""The engines behind the server: batching, vLLM over HTTP, several of its servers."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from llava.errors import UserError
from llava.model.sample import Sample
from llava.serve.engines.engine import EngineError, Models, Request, Unavailable
from llava.serve.engines.local import LocalEngine
from llava.serve.engines.replicas import Replicas
from llava.serve.engines.vllm import VllmEngine
from tests.helpers.chat_client import body
from tests.helpers.standin_engine import StandInEngine
from tests.helpers.waiting import wait_until
from tests.load import same_answers
from tests.load.same_answers import SameArguments, ask_all, make_samples, own_answers

STAR = "What color is the star?"
LONG = "Provide a one-sentence caption for the provided image."


@pytest.fixture
def stand_in(mini):
    engine = StandInEngine(mini.language_model.llm, mini.language_model.end_id)
    yield engine
    engine.close()


@pytest.fixture
def second(mini):
    engine = StandInEngine(mini.language_model.llm, mini.language_model.end_id)
    yield engine
    engine.close()


@pytest.fixture
def open_vllm(open_server):
    """Serves with stand-ins; they are looked at every tenth of a second."""
    return lambda *engines, **settings: open_server(
        engine="vllm", engine_urls=[each.url for each in engines], **settings
    )


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr("llava.serve.engines.vllm._LOOK_SECONDS", 0.1)


def tokens_of(engine, samples):
    return asyncio.run(ask_all(engine, samples, at_once=8))


def vllm_of(model, *engines):
    urls = [each.url for each in engines]
    return VllmEngine(Models(model, "caption+selector"), urls, 8, 0.005, 1 << 28, nothing)


def nothing(size, seconds):
    pass


@pytest.fixture(scope="module")
def samples(mini):
    return make_samples(SameArguments(questions=12, seed=3), mini.count_tokens())


@pytest.fixture(scope="module")
def own(mini, samples):
    return own_answers(mini, samples)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_local_answers_are_the_pipelines_own(mini, samples, own, batch_size):
    sizes = []
    models = Models(mini, "caption+selector")
    engine = LocalEngine(
        models, batch_size, 0.05, 1 << 28, lambda size, seconds: sizes.append(size)
    )
    assert tokens_of(engine, samples) == own
    wait_until(lambda: sum(sizes) == len(samples))
    assert max(sizes) == batch_size


def test_answers_of_prompts_over_http_are_the_pipelines_own(mini, samples, own, stand_in, second):
    """Shared by two servers."""
    assert tokens_of(vllm_of(mini, stand_in, second), samples) == own
    assert len(stand_in.answered) + len(second.answered) == len(samples)
    assert min(len(stand_in.answered), len(second.answered)) >= 3


def test_a_request_that_fails_fails_alone(mini, samples, own):
    """Whether its prompt cannot be made, or its answer; the others of its batch are answered."""

    class Fragile:
        def __init__(self, stage):
            self.stage = stage

        def __getattr__(self, name):
            return getattr(mini, name)

        def without_captions(self):
            return self

        def _break(self, stage, asked):
            if stage == self.stage and any(sample is samples[2] for sample in asked):
                raise RuntimeError("something inside")

        def stages(self, asked, *rest):
            self._break("stages", asked)
            return mini.stages(asked, *rest)

        def generate(self, prompts, asked, *rest):
            self._break("generate", asked)
            return mini.generate(prompts, asked, *rest)

    async def ask(engine):
        await engine.start()
        jobs = [same_answers.tokens_of(engine, Request(s, "caption+selector")) for s in samples[:5]]
        found = await asyncio.gather(*jobs, return_exceptions=True)
        await engine.close()
        return found

    for stage in ("stages", "generate"):
        models = Models(Fragile(stage), "caption+selector")
        found = asyncio.run(ask(LocalEngine(models, 8, 0.2, 1 << 28, nothing)))
        assert isinstance(found.pop(2), EngineError)
        assert found == own[:2] + own[3:5]


def test_jobs_of_a_closed_engine_are_told(mini, samples):
    engine = LocalEngine(Models(mini, "caption+selector"), 2, 0.01, 1 << 28, nothing)

    async def ask():
        await engine.start()
        request = Request(samples[0], "caption+selector")
        asked = [asyncio.create_task(first_event(engine, request)) for _ in range(6)]
        await asyncio.sleep(0)
        await engine.close()
        ended = await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(Unavailable):
            await first_event(engine, request)
        return ended

    ended = asyncio.run(ask())
    assert any(isinstance(each, Unavailable) for each in ended)


async def first_event(engine, request):
    async for event in engine.generate(request):
        return event


# vLLM --------------------------------------------------------------------------------------------


def test_a_server_that_dies_is_left_out_and_comes_back(mini, open_vllm, stand_in, second, scene):
    with open_vllm(stand_in, second) as client:
        assert client.text(STAR, scene) == "black"
        stand_in.is_well = False
        for _ in range(4):  # also before it was noticed
            assert client.text(STAR, scene) == "black"
        begun = len(stand_in.answered)
        second.is_well = False
        wait_until(lambda: client.http.get("/health").status_code == 503)
        error = client.refused(body(STAR, scene), 503)
        assert "no engine can answer now" in error["message"] and error["code"] == "unavailable"
        stand_in.is_well = True
        wait_until(lambda: client.http.get("/health").status_code == 200)
        assert client.text(STAR, scene) == "black"
        assert len(stand_in.answered) == begun + 1


def test_a_server_that_dies_in_the_middle_of_an_answer(open_vllm, stand_in, scene):
    with open_vllm(stand_in) as client:
        stand_in.most_tokens = 2
        error = client.refused(body(LONG, scene), 503)
        assert "lost in the middle of the answer" in error["message"]
        response = client.post(body(LONG, scene, stream=True))
        assert "[DONE]" not in response.text
        stand_in.most_tokens = None
        wait_until(lambda: client.http.get("/health").status_code == 200)
        assert client.text(STAR, scene) == "black"


def test_a_server_that_fails_on_one_request_still_gets_others(
    open_vllm, stand_in, scene, monkeypatch
):
    monkeypatch.setattr("llava.serve.engines.vllm._LOOK_SECONDS", 60)
    with open_vllm(stand_in) as client:
        stand_in.has_fault = True
        error = client.refused(body(STAR, scene), 503)
        assert "each that was tried failed on this request" in error["message"]
        stand_in.has_fault = False
        assert client.http.get("/health").status_code == 200
        assert client.text(STAR, scene) == "black"


def test_the_health_is_counted_by_what_it_says(open_vllm, stand_in):
    with open_vllm(stand_in) as client:
        stand_in.is_well = False
        wait_until(lambda: client.http.get("/health").status_code == 503)
        assert 'accm_requests_total{status="503"} 1\n' in client.http.get("/metrics").text


def test_a_client_that_leaves_ends_the_answer_of_the_engine(open_vllm, stand_in, scene):
    with open_vllm(stand_in) as client, ThreadPoolExecutor(1) as pool:
        stand_in.may_go.clear()
        value = body(LONG, scene, stream=True)
        with client.http.stream("POST", client.PATH, json=value) as response:
            next(response.iter_lines())
        assert pool.submit(wait_until, lambda: stand_in.running == 1).result() is None
        time.sleep(0.3)
        stand_in.may_go.set()
        wait_until(lambda: stand_in.running == 0)
        assert stand_in.left == 1


def test_log_probabilities_come_from_the_engine(open_vllm, stand_in, scene, mini):
    with open_vllm(stand_in) as client:
        found = client.ask(STAR, scene, logprobs=True, top_logprobs=2)
        decode = mini.language_model.tokenizer.decode
        first, last = found["choices"][0]["logprobs"]["content"]
        assert last["token"] == "" and last["logprob"] == -0.25
        assert (first["token"], first["logprob"], first["bytes"]) == ("black", -0.25, [*b"black"])
        likely = [(one["token"], one["logprob"]) for one in first["top_logprobs"]]
        assert likely == [("black", -0.25), (decode([8]), -1.5)]
        pieces = client.stream(STAR, scene, logprobs=True)
        parts = [piece["choices"][0]["logprobs"] for piece in pieces]
        names = [one["token"] for part in parts if part for one in part["content"]]
        assert names == [first["token"], last["token"]]
        found = client.ask(LONG, scene, logprobs=True)["choices"][0]
        tokens = [one["token"] for one in found["logprobs"]["content"]]
        assert "".join(tokens) == found["message"]["content"] and " and" in tokens


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"pruner": "fastv"}, "the pruner fastv works inside the LLM, which another engine"),
        ({"pruner": "vscan_llm"}, "the pruner vscan_llm works inside the LLM"),
    ],
)
def test_what_only_the_pipeline_can_do(open_vllm, stand_in, scene, fields, says):
    with open_vllm(stand_in) as client:
        assert says in client.refused(body(STAR, scene, accm=fields))["message"]
        assert stand_in.answered == []


def test_biases_of_attention_are_refused(load_mini, stand_in, scene):
    model = load_mini(compensation="rectify")
    engine = VllmEngine(Models(model, "rectify"), [stand_in.url], 1, 0, 1 << 20, nothing)
    sample = Sample(torch.zeros(1), STAR, visual_token_num=9)
    with pytest.raises(UserError, match="the compensation works inside the LLM, which"):
        engine.check(Request(sample, "rectify"))
    engine.check(Request(sample, "none"))


def test_a_prompt_that_is_not_finite_never_reaches_the_engine(mini, stand_in, samples):
    class Damaged:
        def __getattr__(self, name):
            return getattr(mini, name)

        def without_captions(self):
            return self

        def stages(self, *args):
            pruned, given, prompts = mini.stages(*args)
            embeds = prompts[0].embeds.clone()
            embeds[-1, 0] = float("nan")
            return pruned, given, [replace(prompts[0], embeds=embeds), *prompts[1:]]

    with pytest.raises(Exception, match="the prompt is not finite"):
        tokens_of(vllm_of(Damaged(), stand_in), samples[:1])
    assert stand_in.answered == []


# Wrong servers -----------------------------------------------------------------------------------


def test_engines_that_cannot_answer_are_named_at_the_start(mini, stand_in, load_tiny, web):
    def says(*urls, model=mini):
        engine = VllmEngine(Models(model, "caption+selector"), urls, 1, 0, 1 << 20, nothing)
        with pytest.raises(UserError) as caught:
            asyncio.run(engine.start())
        assert str(caught.value).isprintable()
        return str(caught.value)

    assert "it is not there" in says("http://127.0.0.1:9")
    assert "it does not answer like vLLM" in says(web.url)
    web.files["/version"] = b"[]"
    assert "it does not answer like vLLM" in says(web.url)
    stand_in.version = "0.6.3"
    assert "it is vLLM 0.6.3, and 0.32 is the oldest" in says(stand_in.url)
    stand_in.version = "0.33.0+cpu"
    message = says(stand_in.url, model=load_tiny(compensation=False))
    assert "hidden_size" in message and "is not the LLM of this one" in message


@pytest.mark.parametrize(
    "urls",
    [
        ["127.0.0.1:8001"],
        ["ftp://a"],
        ["http://"],
        ["http://a:0"],
        ["http://[::"],
        ["http://a/v1"],
        ["http://a", "http://a/"],
    ],
)
def test_wrong_addresses(urls):
    with pytest.raises(UserError, match="--engine-urls"):
        Replicas(urls)


def test_the_server_with_the_fewest_requests_is_next():
    replicas = Replicas(["http://a", "http://b", "http://c"])
    for each in replicas.all:
        each.problem = None
    a, b, c = replicas.all
    with a.busy(), a.busy(), b.busy():
        assert replicas.choose() is c
        c.problem = "gone"
        assert replicas.choose() is b
        assert replicas.choose({b}) is a
        with pytest.raises(Unavailable, match="ask again"):
            replicas.choose({a, b})
    assert (a.outstanding, b.outstanding) == (0, 0)
