"""The notebook: what it shows is what it does, from any folder, and nothing is left behind."""

import io
import re
from base64 import b64decode
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"


@pytest.fixture(scope="module")
def written():
    return nbformat.read(TOUR, as_version=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One without the mini benchmarks."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def executed(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")  # the model is small, and the tests share the cores
        patch.syspath_prepend(str(ROOT / "scripts"))
        import execute_tour

        execute_tour.main(folder / TOUR.name)
    yield nbformat.read(folder / TOUR.name, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def texts(notebook):
    """What each cell prints or has as its value."""
    return [
        [output.get("text") or output.data.get("text/plain") for output in cell.get("outputs", ())]
        for cell in notebook.cells
    ]


def pictures(notebook):
    found = []
    for output in outputs(notebook):
        for kind, data in output.get("data", {}).items():
            if kind.startswith("image/"):
                found.append(Image.open(io.BytesIO(b64decode(data))))
    return found


def test_the_notebook_shows_what_an_execution_gives(written, executed, folder):
    assert texts(written) == texts(executed)
    assert [p.size for p in pictures(written)] == [p.size for p in pictures(executed)]
    assert list(folder.iterdir()) == [folder / TOUR.name]


def test_the_notebook_shows_answers_and_pictures(written):
    """Budgets, captions on and off, the figure and the plot; in the order of the cells."""
    counts = [cell.execution_count for cell in written.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    text = "\n".join(str(text) for cell in texts(written) for text in cell)
    for said in (
        "accm-mini knows drawn scenes",
        "144 tokens\n",
        "9 tokens",
        "no caption",
        "% with",
    ):
        assert said in text
    scene, figure, plot = pictures(written)
    assert all(picture.convert("L").getextrema() != (255, 255) for picture in (scene, figure, plot))


def test_the_notebook_is_small_and_of_no_machine():
    text = TOUR.read_text("utf-8")
    assert len(text) < 300_000
    for trace in (str(ROOT), "/home/", "/tmp/", "Warning", '"stderr"'):
        assert trace not in text


def test_links_of_the_notebook_lead_somewhere(written):
    prose = "\n".join(cell.source for cell in written.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)\)", prose)
    assert len(links) > 3
    for link in links:
        assert (TOUR.parent / link).exists(), link
