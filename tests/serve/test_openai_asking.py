"""How a request for the server and its flags together become a question."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from PIL import Image

from llava.method import Method
from llava.serve.openai.asking import Asker
from llava.serve.openai.limits import Limits
from llava.serve.openai.protocol import read_request
from tests.helpers.chat_client import data_url, message


@pytest.fixture
def ask(mini, scene):
    """Reads a request to a server with flags of its own; gives the question for the engine."""

    async def read(url):
        return Image.new("RGB", (96, 96))

    models = type("Models", (dict,), {"usual": "none"})({"none": mini.without_captions()})
    engine = SimpleNamespace(models=models, check=lambda request: None)
    options = {"important_ratio": 0.7}
    usual = Method(36, pruner="vispruner", pruner_options=options, view_split="base-first")

    def asked(**accm):
        limits = Limits(1 << 20, 100, 8, 10.0, 1)
        asker = Asker(engine, SimpleNamespace(read=read), limits, "m", usual)
        value = {"model": "m", "messages": [message("What?", data_url(scene))], "accm": accm}
        return asyncio.run(asker.ask(read_request(json.dumps(value).encode()))).sample

    return asked


def test_options_and_split_are_those_of_the_server_s_own_pruner(ask):
    def settings(sample):
        return sample.pruner, sample.pruner_options, sample.view_split

    own = ("vispruner", {"important_ratio": 0.7}, "base-first")
    assert settings(ask()) == own and ask().visual_token_num == 36
    assert settings(ask(view_split="global")) == (*own[:2], "global")
    assert settings(ask(pruner="none")) == ("none", (), None)  # where a split is refused
    assert settings(ask(pruner="pool", view_split="proportional")) == ("pool", (), "proportional")
