"""The parts of the web page: answers as they come, what is shown of them, what a browser sends."""

import math

import pytest
from PIL import Image

from llava.errors import UserError
from llava.serve.web import panels
from llava.serve.web.answering import Answerer, Timed
from llava.serve.web.inputs import open_image, read_budget, read_upload
from llava.serve.web.limits import Limits
from llava.serve.web.load.bad_images import bad_images
from llava.serve.web.uploads import find_upload, page_folder

STAR = "What color is the star?"
LIMITS = Limits(
    upload_bytes=100_000,
    pixels=1_000_000,
    question_length=50,
    all_uploads_bytes=250_000,
    upload_age=3600,
)


@pytest.fixture(scope="module")
def image(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    path.write_bytes(scene)
    return open_image(path, LIMITS)


def test_pieces_come_before_the_whole(mini, image):
    answerer = Answerer(mini, max_new_tokens=16, seed=42)
    *pieces, whole = answerer.stream(answerer.sample(image, STAR, 9))
    assert isinstance(whole, Timed) and "".join(pieces).strip() == whole.answer.text == "black"
    assert whole.seconds >= sum(whole.answer.seconds.values()) * 0.99
    answerer.close()


def test_nothing_is_remembered(mini, image):
    """The second time takes the same stages: both answers of a page are timed alike."""
    answerer = Answerer(mini, max_new_tokens=16, seed=42)
    sample = answerer.sample(image, STAR, 144)
    (*_, first), (*_, second) = answerer.stream(sample), answerer.stream(sample)
    assert second.answer.seconds["encode"] > first.answer.seconds["encode"] / 20
    assert second.answer.out_ids == first.answer.out_ids
    answerer.close()


def test_who_closes_the_stream_ends_the_work(held, image):
    answerer = Answerer(held, max_new_tokens=16, seed=42)
    stream = answerer.stream(answerer.sample(image, STAR, 9))
    next(stream)
    stream.close()
    held.may_go.set()
    assert held.stopped.wait(20)
    *_, whole = answerer.stream(answerer.sample(image, STAR, 9))
    assert whole.answer.text == "black"
    answerer.close()


def test_the_end_of_the_page_ends_the_work(held, image):
    answerer = Answerer(held, max_new_tokens=16, seed=42)
    stream = answerer.stream(answerer.sample(image, STAR, 9))
    next(stream)
    answerer.close()
    held.may_go.set()
    assert held.stopped.wait(20)


def test_texts_are_no_markup():
    text = "<script>{{value}} ${1} &"
    for shown in (panels.safe(text), panels.answer_card(text, text)):
        assert "<script>" not in shown and "{" not in shown and "$" not in shown
        assert "&lt;script&gt;&#123;&#123;value&#125;&#125; &#36;&#123;1&#125; &amp;" in shown


def test_bars_share_a_scale():
    shown = panels.stage_bars(
        [("few", {"encode": 0.1, "decode": 0.1}), ("all", {"encode": 0.1, "prefill": 0.3})]
    )
    widths = [part.split("%")[0] for part in shown.split("width:")[1:]]
    assert [float(width) for width in widths] == [25, 25, 25, 75]
    assert "200 ms" in shown and "400 ms" in shown and ">prune<" not in shown


@pytest.mark.parametrize("kind", [k for k in bad_images() if "bomb" in k or "limit" in k])
def test_bombs_are_told_by_their_headers(kind, tmp_path):
    import numpy as np

    (tmp_path / "image.png").write_bytes(bad_images()[kind](np.random.default_rng(0)))
    with pytest.raises(UserError):
        open_image(tmp_path / "image.png", LIMITS)


def test_an_upload_that_is_gone(tmp_path):
    with pytest.raises(UserError, match="long ago"):
        open_image(tmp_path / "image.png", LIMITS)


def test_only_uploads_are_found(tmp_path):
    folder, other = tmp_path / "uploads", tmp_path / "other"
    for each in (folder, other):
        each.mkdir()
        Image.new("RGB", (2, 2)).save(each / "image.png")
    (folder / "link.png").symlink_to(other / "image.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    assert find_upload(str(folder / "image.png"), folder) == folder / "image.png"
    for path in (other / "image.png", folder / "link.png", folder / "loop.png", folder, "", None):
        assert find_upload(path, folder) is None, path
    assert read_upload({"path": str(folder / "image.png")}, folder) == folder / "image.png"


@pytest.mark.parametrize("value", [0, 145, 1.5, "9", None, True, math.nan, math.inf, [9]])
def test_budgets_that_are_none(value):
    with pytest.raises(UserError, match="a whole number from 1 to 144"):
        read_budget(value, 144)
    assert read_budget(9.0, 144) == 9


def test_the_folder_is_gone_after_a_failure():
    with pytest.raises(ZeroDivisionError):
        with page_folder() as folder:
            assert folder.is_dir()
            1 / 0  # noqa: B018
    assert not folder.exists()
