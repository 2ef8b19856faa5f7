"""A mini LLaVA-NeXT: how it is started, and that training reads what the pipeline reads."""

import pytest
import torch
from PIL import Image

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.mini import make_next
from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from llava.mini.stages.mini_llava import load_llava, save_llava
from llava.model.builder import load_from_arguments, load_vision
from llava.model.sample import Sample
from llava.train.distributed import Team
from llava.train.features import image_features
from llava.train.newlines import read_features
from llava.train.packing import Packer, collate, predict, run_llm
from llava.train.samples import ShortQuestion, load_asked_images, load_frozen_llm

MINI = "checkpoints/accm-mini"
QUESTION = "What color is the star?\nAnswer the question using a single word or phrase."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("next") / "accm-mini-next"
    assert make_next.main(["--model-path", MINI, "--out", str(out)]) == 0
    save_llava(*load_llava(out, seed=0), out, out)  # with a newline token
    return out


@pytest.fixture(scope="module")
def args(folder):
    return ModelArguments(str(folder), compensation=False, device="cpu")


@pytest.fixture
def scene():
    return draw_scene(make_scene(scene_generator(0, "validation", 7), scale=2))


@pytest.mark.parametrize("budget", [720, 60])
def test_training_reads_what_the_pipeline_reads(folder, args, scene, budget):
    model = load_from_arguments(args)
    sample = Sample(scene, QUESTION, visual_token_num=budget)
    (answer,) = model.answer([sample])
    (encoded,) = model.encode([sample])
    features = read_features(encoded.image, torch.tensor(answer.kept_idx))
    packer = Packer(model.language_model.tokenizer)
    packed = packer.pack([(QUESTION, "red")], len(features), None)
    assert len(packed.ids) - 1 == answer.input_length + len(packer.answer_ids("red")) - 2
    frozen = load_frozen_llm(args)
    for llm, projector in ((frozen.llm, frozen.projector), load_llava(folder, seed=1)):
        batch = collate([packed], [features])
        with torch.no_grad():
            logits, _ = predict(llm, run_llm(llm, projector, batch), batch.labels)
        torch.testing.assert_close(logits[0], answer.first_logits, atol=1e-4, rtol=1e-4)


def test_a_newline_token_is_learnt_and_written(folder, tmp_path):
    llm, projector = load_llava(folder, seed=0)
    rows = torch.cat([torch.zeros(1, 128), torch.randn(2, 128)])
    projector(rows)[0].sum().backward()
    assert torch.equal(projector.newline.grad, torch.ones(128))
    projector.newline.data.fill_(0.5)
    save_llava(llm, projector, folder, tmp_path)
    again = load_llava(tmp_path, seed=0)[1]
    assert torch.equal(again.newline, torch.full((128,), 0.5))


def test_features_of_all_views_are_kept_on_disk(args, scene, tmp_path):
    scene.save(tmp_path / "scene.png")
    seen = load_vision(args)
    found = image_features(tmp_path / "cache", [tmp_path / "scene.png"], seen).image(0)
    (encoded,) = seen.encode([Image.open(tmp_path / "scene.png").convert("RGB")])
    assert found.views == encoded.views and len(found.views) == 5
    assert found.features.shape == (720, 128) and seen.num_tokens == 720
    torch.testing.assert_close(found.features, encoded.features, atol=1e-2, rtol=1e-3)
    scene.resize((192, 96)).save(tmp_path / "wide.png")
    with pytest.raises(UserError, match="different sizes"):
        both = [tmp_path / "scene.png", tmp_path / "wide.png"]
        image_features(tmp_path / "other", both, seen)


def test_a_copy_that_was_cut_off_is_made_again(tmp_path, monkeypatch, capsys):
    flags = ["--model-path", MINI, "--out", str(tmp_path / "model")]

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(make_next, "write_json", full_disk)
        assert make_next.main(flags) == 2
    assert "No space left" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert make_next.main(flags) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_budgets_are_checked_against_the_images_that_are_trained_on(args, scene, tmp_path):
    scene.resize((192, 96)).save(tmp_path / "wide.png")  # 432 of the model's 720 tokens
    asked = [ShortQuestion(1, "wide.png", QUESTION, QUESTION, "red")]
    with pytest.raises(UserError, match="--budget has 500: of 432 tokens 1 to 431"):
        load_asked_images(args, Team("cpu"), asked, tmp_path, tmp_path / "cache", 500)


def test_bad_input(folder, capsys, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"mm_vision_tower": "clip"}')
    (other / "clip").mkdir()
    (other / "clip" / "config.json").write_text("{}")
    assert make_next.main(["--model-path", str(other), "--out", str(tmp_path / "new")]) == 2
    assert "clip is not a CLIP checkpoint" in capsys.readouterr().err
    assert make_next.main(["--model-path", MINI]) == 2
    assert "--out" in capsys.readouterr().err
    assert make_next.main(["--model-path", MINI, "--out", str(folder)]) == 2
    assert "is there" in capsys.readouterr().err
