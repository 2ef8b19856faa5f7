"""Small editions of the seven benchmarks, made once."""

import pytest

from llava.mini.benchmarks import write_benchmarks

# Whole turns of answers and letters where they are counted, else a few.
SMALL = {"mme": 4, "mmbench": 24, "pope": 3, "mmvp": 8, "seed": 24, "gqa": 24, "flickr": 3}


@pytest.fixture(scope="session")
def eval_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini") / "eval"
    folder.mkdir()
    write_benchmarks(folder, seed=5, split="test", sizes=SMALL)
    return folder
