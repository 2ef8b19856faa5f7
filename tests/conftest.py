"""Fixtures: the recorded reference, the tiny checkpoints it ran on, and a model loaded from them.

``tests/data/golden`` holds the recorded values of drawn images; values of photographs are read from
``../shared/golden`` where that is there.

pytest-xdist reads this file in its first process too, which runs no test and which the others wait
for: torch and what imports it are imported by fixtures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llava.arguments import ModelArguments
from tests.helpers import fuzzing
from tests.helpers.standin import Web

if TYPE_CHECKING:
    from llava.model.sample import Sample

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "tests" / "data" / "golden"
SHARED = ROOT.parent / "shared"
# The files of tests that take longest, half a minute and more: processes begin with them, so that
# none of them works alone at the end.
LONGEST = (
    "test_gpu_check.py",
    "test_reproduce.py",
    "serve/test_web_browser.py",
    "eval/test_run.py",
    "train/test_train_compensation.py",
    "test_tour.py",
    "test_documents.py",
    "train/test_stage.py",
    "eval/test_sweep.py",
    "test_parity.py",
    "train/test_mini_model.py",
    "model/test_memory.py",
    "eval/test_bench.py",
    "serve/test_web_page.py",
    "serve/test_web_gate.py",
)


def pytest_collection_modifyitems(items):
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz-inputs", type=int, default=60, help="damaged files that each reader is given"
    )


@pytest.fixture(scope="session")
def fuzz(request):
    """fuzz(read, seeds) gives a reader damaged files; see tests/helpers/fuzzing.py."""
    inputs = request.config.getoption("--fuzz-inputs")
    return lambda read, seeds: fuzzing.fuzz(read, seeds, inputs)


@dataclass(frozen=True)
class GoldenCases:
    """A folder of recorded cases."""

    folder: Path

    def json(self, name: str):
        return json.loads((self.folder / name).read_text("utf-8"))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / name) as arrays:
            return dict(arrays)

    def image_paths(self) -> dict[str, Path]:
        images = self.json("manifest.json")["images"]
        return {key: self.folder / entry["file"] for key, entry in images.items()}

    def samples(self, cases: list[dict], max_new_tokens: int = 16) -> list[Sample]:
        """The cases as samples; cases of one image share it."""
        from llava.mm_utils import load_image
        from llava.model.sample import Sample

        images = {key: load_image(path) for key, path in self.image_paths().items()}
        return [
            Sample(
                image=images[case["image"]],
                question=case["llm_question"],
                tower_question=case["tower_prompt"],
                visual_token_num=case["K"],
                text_token_num=case["T"],
                seed=case["seed"],
                max_new_tokens=max_new_tokens,
            )
            for case in cases
        ]


@pytest.fixture(scope="session", params=["bundled", "shared"])
def golden(request) -> GoldenCases:
    """The recorded cases: those that come along, and all of them where they are."""
    if request.param == "bundled":
        return GoldenCases(BUNDLED / "cases")
    if not (SHARED / "golden" / "cases").is_dir():
        pytest.skip("the recorded cases of photographs (../shared/golden) are not here")
    return GoldenCases(SHARED / "golden" / "cases")


@pytest.fixture(scope="session")
def bundled() -> GoldenCases:
    return GoldenCases(BUNDLED / "cases")


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    return BUNDLED / "checkpoints"


@pytest.fixture(scope="session")
def layouts() -> Path:
    return BUNDLED / "layouts"


@pytest.fixture(scope="session")
def tiny_settings(checkpoints) -> dict:
    """Arguments of load_pretrained_model for the tiny checkpoints."""
    return dict(
        model_path=str(checkpoints / "llava-v1.5-tiny"),
        gpt2=str(checkpoints / "gpt2-tiny"),
        checkpoints_root=str(checkpoints),
        device="cpu",
    )


@pytest.fixture(scope="session")
def tiny_flags(tiny_settings) -> list[str]:
    """The same as flags of a command."""
    return [
        w for name, value in tiny_settings.items() for w in (f"--{name.replace('_', '-')}", value)
    ]


@pytest.fixture(scope="session")
def load_tiny(tiny_settings):
    """Loads the tiny model with other settings."""
    from llava.model.builder import load_from_arguments

    return lambda **settings: load_from_arguments(ModelArguments(**(tiny_settings | settings)))


@pytest.fixture(scope="session")
def model(load_tiny):
    return load_tiny()


@pytest.fixture(scope="session")
def prune_only(load_tiny):
    return load_tiny(compensation=False)


@pytest.fixture(scope="session")
def shared_benchmarks() -> Path:
    if not (SHARED / "benchmarks").is_dir():
        pytest.skip("the benchmark data (../shared/benchmarks) are not here")
    return SHARED / "benchmarks"


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """The mini model before it is trained: configurations and tokenizers. Not to be changed."""
    from llava.mini import make_model

    folder = tmp_path_factory.mktemp("untrained") / "model"
    assert make_model.main(["--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory) -> Path:
    """An interpreter for scripts; see tests/helpers/warm_python.py."""
    from tests.helpers.warm_python import warm_python

    with warm_python(tmp_path_factory.mktemp("warm")) as program:
        yield program


@pytest.fixture
def web(monkeypatch):
    """A web server on loopback (tests/helpers/standin.py) that no setting of this machine hides."""
    from huggingface_hub import close_session

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    close_session()
    server = Web()
    yield server
    server.close()


@pytest.fixture
def network(web):
    """The stand-in as the hub, and no patience to speak of."""
    from llava.download.line import Network

    return Network(endpoint=web.url, timeout=20, wait=0.01)
