import pytest

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.model.builder import load_from_arguments
from llava.model.loading import locate as locating
from llava.model.loading.locate import is_hub_name, locate
from llava.serve.cli import CliArguments


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with nothing in it, from where the hub must not be asked."""

    def asked(*args, **settings):
        raise AssertionError(f"the hub was asked: {args}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locating, "snapshot_download", asked)
    monkeypatch.setattr(locating, "hf_hub_download", asked)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/accm-mini",
        "Checkpoints/accm-mini",
        "checkpoints/longclip-L.pt",
        "checkpoints/accm/coco_prefix-009.pt",
        "./owner/model",
        "../owner/model",
        "~/owner/model",
        "/owner/model",
        "owner/model/",
        "owner//model",
        "owner\\model",
        "a/b/c",
        "a/b/c/d.pt",
        "owner/model.safetensors",
        "owner/..",
        ".hidden/model",
        "model",
        "C:/model",
        "owner/mo del",
        "owner/model\n",
        "owner/m\u00f6del",
        "",
        "a" * 5000,
        "a/" + "b" * 300 + "/" + "\0",
    ],
)
def test_what_looks_like_a_path_never_goes_to_the_hub(elsewhere, name):
    assert not is_hub_name(name)
    with pytest.raises(UserError, match="there is no ") as error:
        locate(name)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["owner/model", "liuhaotian/llava-v1.5-7b", "owner/repo/file.pt"])
def test_names_of_the_hub(elsewhere, name):
    assert is_hub_name(name)
    (elsewhere / name.split("/")[0]).mkdir()  # now it begins with a folder that is there
    assert not is_hub_name(name)


@pytest.mark.parametrize(
    "part", ["model_path", "vision_tower", "gpt2", "caption_model", "selector", "longclip"]
)
def test_every_part_is_located_by_the_same_rule(elsewhere, tiny_settings, part):
    settings = tiny_settings | {part: "checkpoints/mine"}
    with pytest.raises(UserError, match="there is no checkpoints/mine in the current folder"):
        load_from_arguments(ModelArguments(**settings))


def test_defaults_are_the_projects_own_from_any_folder(elsewhere):
    defaults = CliArguments()
    for path in (defaults.model_path, defaults.checkpoints_root, defaults.image_file):
        assert path.startswith(str(locating.PROJECT))
    (elsewhere / "checkpoints").mkdir()
    assert ModelArguments().checkpoints_root == "checkpoints"


def test_the_home_folder(elsewhere, monkeypatch):
    monkeypatch.setenv("HOME", str(elsewhere))
    (elsewhere / "model").mkdir()
    assert locate("~/model") == elsewhere / "model"


def test_a_loop_of_links(elsewhere):
    (elsewhere / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="there is no loop"):
        locate("loop")
