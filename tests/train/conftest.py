"""A toy that is trained once for several tests, and a toy world for the stages."""

import pytest
import torch

from llava.mini.training_set import write_training_set
from tests.helpers.toy_stage import train_toy


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Bytes are compared: with the threads that the subprocesses have, what modules share too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The output folder of a run that nothing disturbs."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    train_toy(folder)
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The mini world's training data, a dozen images of it."""
    folder = tmp_path_factory.mktemp("world")
    write_training_set(folder, seed=3, images=12, processes=1)
    return folder
