"""A tiny Qwen2.5-VL, alone and with CLIP beside its tower."""

import pytest

from tests.helpers.tiny_qwen import load_tiny_qwen, make_tiny_qwen


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory):
    """Its checkpoint. Not to be changed."""
    folder = tmp_path_factory.mktemp("qwen") / "Qwen2.5-VL-tiny"
    make_tiny_qwen(folder)
    return folder


@pytest.fixture(scope="session")
def qwen(qwen_folder):
    return load_tiny_qwen(qwen_folder)


@pytest.fixture(scope="session")
def beside(qwen_folder, checkpoints):
    """The model with CLIP beside its tower, and captions."""
    return load_tiny_qwen(
        qwen_folder,
        compensation="caption+selector",
        side_tower=str(checkpoints / "clip-vit-tiny-patch14-336"),
        gpt2=str(checkpoints / "gpt2-tiny"),
        checkpoints_root=str(checkpoints),
    )
