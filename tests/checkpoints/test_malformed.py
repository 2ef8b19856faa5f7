"""Whatever verify passes loads and answers, and whatever else is given gets one line.

``--fuzz-inputs 1000`` and more tries every malformed checkpoint, the default a few of each part.
"""

import traceback
from pathlib import Path

import pytest
import torch

from llava.arguments import ModelArguments
from llava.checkpoints.verify import verify
from llava.errors import UserError
from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from llava.model.builder import load_from_arguments
from llava.model.sample import Sample
from tests.helpers import malformed_checkpoints as malformed

MINI = Path(__file__).parents[2] / "checkpoints" / "accm-mini"
ALL = 1000  # inputs that ask for all of them


@pytest.fixture(scope="module")
def image():
    return draw_scene(make_scene(scene_generator(5, "train", 16)))


def is_ok(folder, part, image):
    """Whether a checkpoint loads and answers; fails where verify says otherwise, or an error is
    not one line."""
    compensation = part not in ("model", "vision_tower")
    args = ModelArguments(str(folder), compensation=compensation, device="cpu")
    problems = [verdict.problem for verdict in verify(args) if verdict.problem is not None]
    try:
        model = load_from_arguments(args)
    except UserError as error:
        assert problems, f"verify passes what does not load: {error}"
        for message in [str(error), *problems]:
            assert message and "\n" not in message and len(message) <= 1000, message
        return False
    assert not problems, f"what loads is BAD: {problems}"
    (answer,) = model.answer([Sample(image, "What is it?", visual_token_num=9, max_new_tokens=2)])
    assert answer.first_logits.isfinite().all()
    if compensation:
        assert torch.tensor(answer.compensation.scores).isfinite().all()
    return True


def test_malformed_checkpoints(request, tmp_path, monkeypatch, image):
    monkeypatch.chdir(tmp_path)
    inputs = request.config.getoption("--fuzz-inputs")
    names = list(malformed.DAMAGES)
    names = names if inputs >= ALL else names[7 :: 600 // max(1, inputs // 4)]
    failures, accepted = [], []
    for number, name in enumerate(names):
        folder = malformed.copy(MINI, tmp_path / f"model-{number}")
        malformed.DAMAGES[name](folder)
        try:
            if is_ok(folder, name.split("/")[0], image):
                accepted.append(name)
        except BaseException as error:  # a panic of a library in Rust is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(
                f"{name}: {type(error).__name__} {error} ({last.filename}:{last.lineno})"
            )
    print(f"{len(names)} malformed checkpoints, {len(accepted)} load and answer: {accepted}")
    assert not failures, "\n".join(failures)
    assert not set(accepted) & set(malformed.BAD_WEIGHTS)
    assert not list(tmp_path.rglob("sprung"))


@pytest.mark.parametrize("kind", ["nan", "complex", "int64", "sparse", "meta"])
@pytest.mark.parametrize("name", ["longclip/{} weights", "model/{} weights"])
def test_bad_weights_are_not_loaded_in_silence(tmp_path, image, name, kind):
    folder = malformed.copy(MINI, tmp_path / "model")
    malformed.DAMAGES[name.format(kind)](folder)
    part = name.split("/")[0]
    args = ModelArguments(str(folder), compensation=part == "longclip", device="cpu")
    verdict = next(v for v in verify(args) if v.part == part)
    says = {"nan": "NaN or infinite", "complex": "complex64", "meta": "no values"}
    assert says.get(kind, kind) in verdict.problem
    with pytest.raises(UserError, match=says.get(kind, kind)):
        load_from_arguments(args)
