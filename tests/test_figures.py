"""The figures are made by one command, from measured data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
COLUMNS = "benchmark,method,visual_tokens,mean_percent_of_full,mean_percent_of_full_low,"
COLUMNS += "mean_percent_of_full_high"
BENCHMARKS = ("mme", "mmbench", "pope", "mmvp", "seed", "gqa", "flickr", "mean")
ROWS = (
    "full,144,100,100,100",
    "accm,9,94,92,96",
    "accm,36,99,98,100",
    "prune,9,75,72,78",
    "prune,36,98,97,99",
    "no image,0,40,38,42",
)


@pytest.fixture(scope="module")
def make():
    """The command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import make_figures

        yield lambda *flags: make_figures.main([str(flag) for flag in flags])


@pytest.fixture(scope="module")
def drawn(make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    lines = [f"{benchmark},{row}" for benchmark in BENCHMARKS for row in ROWS]
    (folder / "report.csv").write_text("\n".join([COLUMNS, *lines]) + "\n")
    assert make("--output-dir", folder, "--report", folder / "report.csv") == 0
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", ["pipeline", "trace", "accuracy"])
def test_a_figure_is_sharp_at_the_width_of_a_readme(drawn, name):
    picture = pixels(drawn / f"{name}.png")
    assert picture.shape[1] > 1660 and picture.shape[0] < picture.shape[1]
    assert picture.std() > 20
    assert pixels(ROOT / "images" / f"{name}.png").shape == picture.shape


@pytest.mark.parametrize("name", ["example", "scene"])
def test_pictures_to_try_commands_on_are_those_that_are_here(drawn, name):
    assert np.array_equal(pixels(drawn / f"{name}.png"), pixels(ROOT / "images" / f"{name}.png"))


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--only", "map"], "there are example, scene"),
        (["--only", "accuracy", "--report", "nowhere.csv"], "quickstart.sh makes it"),
        (["--only", "accuracy", "--report", str(ROOT / "README.md")], "is no report"),
        (["--output-dir", "nowhere"], "no folder nowhere"),
    ],
)
def test_what_cannot_be_drawn(make, capsys, flags, says):
    assert make(*flags) == 2
    assert says in capsys.readouterr().err
