"""Fixtures: the mini model, and web pages that answer with it or with something in its place."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from llava.arguments import ModelArguments
from llava.model.builder import load_from_arguments

ROOT = Path(__file__).parents[2]


def pytest_addoption(parser):
    parser.addoption("--screenshot", help="where the README's picture of the web page goes")


@pytest.fixture(scope="session")
def mini():
    return load_from_arguments(ModelArguments(str(ROOT / "checkpoints/accm-mini"), device="cpu"))


@pytest.fixture(scope="session")
def scene() -> bytes:
    return (ROOT / "images" / "scene.png").read_bytes()


@pytest.fixture(scope="session")
def open_page(mini):
    """Serves a page with other settings, or another model; gives its address."""
    from llava.serve.web.arguments import Patience, WebArguments
    from llava.serve.web.server import opened
    from tests.load.process import free_port

    @contextmanager
    def start(model=mini, patience=None, **settings):
        arguments = dataclasses.replace(
            WebArguments(port=free_port(), visual_token_num=36), **settings
        )
        with opened(model, arguments, patience or Patience()) as address:
            yield address

    return start


@pytest.fixture(scope="session")
def page(open_page):
    with open_page() as address:
        yield address


class Held:
    """A model that waits after each token, and that some questions break.

    Attributes:
        began: a first token has come.
        may_go: it waits no longer.
        answers: how many were begun.
        stopped: one ended before its end.
    """

    def __init__(self, model):
        self._model = model
        self.began, self.may_go, self.stopped = (threading.Event() for _ in range(3))
        self.answers = 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def answer(self, samples, on_token):
        if "Break" in samples[0].question:
            raise RuntimeError("something inside")
        self.answers += 1

        def tell(place, token):
            on_token(place, token)
            self.began.set()
            self.may_go.wait(30)

        try:
            return self._model.answer(samples, on_token=tell)
        except BaseException:
            self.stopped.set()
            raise


@pytest.fixture
def held(mini):
    model = Held(mini)
    yield model
    model.may_go.set()


@pytest.fixture(scope="session")
def open_server(mini):
    """Serves OpenAI's interface with other settings, or another model; gives its client."""
    from llava.serve.openai.arguments import ServeArguments
    from llava.serve.openai.server import opened
    from llava.serve.web.arguments import Patience
    from tests.helpers.chat_client import ChatClient
    from tests.load.process import free_port

    @contextmanager
    def start(model=mini, key=None, patience=None, **settings):
        usual = ServeArguments(
            device="cpu", port=free_port(), visual_token_num=36, drain_seconds=0.1
        )
        arguments = dataclasses.replace(usual, **settings)
        with (
            opened(model, arguments, key, patience or Patience()) as address,
            ChatClient(address, key) as client,
        ):
            yield client

    return start


@pytest.fixture(scope="session")
def server(open_server):
    with open_server() as client:
        yield client


class HeldEngine:
    """A model whose answers wait after each token.

    Attributes:
        began: a first token has come.
        may_go: it waits no longer.
        ended: an answer has ended, or failed.
        lengths: tokens of each answer that has ended.
        images: of the answers.
    """

    def __init__(self, model):
        self._model = model
        self.began, self.may_go, self.ended = (threading.Event() for _ in range(3))
        self.lengths, self.images = [], []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def without_captions(self):
        return self

    def generate(self, prompts, samples, watch, on_token, memory):
        if any("Break" in sample.question for sample in samples):
            raise RuntimeError("something inside")
        self.images += [sample.image for sample in samples]

        def tell(place, token):
            has_ended = on_token(place, token)
            self.began.set()
            self.may_go.wait(30)
            return has_ended

        found = self._model.generate(prompts, samples, watch, tell, memory)
        self.lengths += [len(one.out_ids) for one in found]
        self.ended.set()
        return found


@pytest.fixture
def held_engine(mini):
    model = HeldEngine(mini)
    yield model
    model.may_go.set()


@pytest.fixture(scope="session")
def load_mini():
    """Loads the mini model with other settings."""
    path = str(ROOT / "checkpoints/accm-mini")
    return lambda **settings: load_from_arguments(ModelArguments(path, device="cpu", **settings))
