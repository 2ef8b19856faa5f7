"""A toy that is trained once for several tests."""

import pytest
import torch
from toy_stage import train_toy


@pytest.fixture(autouse=True)
def one_thread():
    """Bytes are compared: with the threads that the subprocesses have."""
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
