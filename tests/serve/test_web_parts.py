"""The parts of the web page: answers as they come, what is shown of them, what a browser sends."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from llava.errors import UserError
from llava.method import Method
from llava.serve.web import costs, panels
from llava.serve.web.answering import Answerer, Timed, check_question
from llava.serve.web.arguments import Limits
from llava.serve.web.inputs import look_at, open_upload, read_budget, read_file, read_upload
from llava.serve.web.uploads import find_upload, page_folder
from tests.load.bad_images import bad_images

ROOT = Path(__file__).parents[2]
STAR = "What color is the star?"
LIMITS = Limits(
    max_upload_bytes=100_000,
    max_all_uploads_bytes=250_000,
    max_pixels=1_000_000,
    max_question_length=50,
)


@pytest.fixture(scope="module")
def image(scene):
    return open_upload(scene, LIMITS)


def test_pieces_come_before_the_whole(mini, image):
    answerer = Answerer(mini, Method(), max_new_tokens=16)
    *pieces, whole = answerer.stream(answerer.sample(image, STAR, 9))
    assert isinstance(whole, Timed) and "".join(pieces).strip() == whole.answer.text == "black"
    assert whole.seconds >= sum(whole.answer.seconds.values()) * 0.99
    answerer.close()


def test_nothing_is_remembered(mini, image):
    """The second time takes the same stages: both answers of a page are timed alike."""
    answerer = Answerer(mini, Method(), max_new_tokens=16)
    sample = answerer.sample(image, STAR, 144)
    (*_, first), (*_, second) = answerer.stream(sample), answerer.stream(sample)
    assert second.answer.seconds["encode"] > first.answer.seconds["encode"] / 20
    assert second.answer.out_ids == first.answer.out_ids
    answerer.close()


def test_who_closes_the_stream_ends_the_work(held, image):
    answerer = Answerer(held, Method(), max_new_tokens=16)
    stream = answerer.stream(answerer.sample(image, STAR, 9))
    next(stream)
    stream.close()
    held.may_go.set()
    assert held.stopped.wait(20)
    *_, whole = answerer.stream(answerer.sample(image, STAR, 9))
    assert whole.answer.text == "black"
    answerer.close()


def test_the_end_of_the_page_ends_the_work(held, image):
    answerer = Answerer(held, Method(), max_new_tokens=16)
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


def test_the_templates_come_with_an_installed_package():
    folder = "llava/serve/web/templates"
    said = (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()
    assert f"recursive-include {folder} *" in said and len(list((ROOT / folder).iterdir())) > 3


def test_an_answer_keeps_its_blanks_and_lines():
    shown = panels.answer_card("few", "a\n  b ")
    assert '<p class="answer">a\n  b </p>' in shown


def test_every_stage_of_the_pipeline_has_a_colour():
    stages = "encode", "side tower", "prune", "relate", "caption", "select", "splice", "prefill"
    shown = panels.stage_bars([("few", dict.fromkeys((*stages, "decode"), 0.1))])
    assert all(f">{stage}" in shown or f"{stage}<" in shown for stage in stages)


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
        open_upload(read_file(tmp_path / "image.png", LIMITS), LIMITS)


@pytest.mark.parametrize("kind", [k for k in bad_images() if k.startswith(("a ", "an "))])
def test_every_image_that_is_taken_can_be_looked_at(kind):
    import numpy as np

    data = bad_images()[kind](np.random.default_rng(1))
    try:
        open_upload(data, LIMITS)
    except UserError:
        return
    is_shown, advice = look_at(data)
    assert is_shown == ("TIFF" not in kind and "PPM" not in kind)
    assert ("first frame" in (advice or "")) == (is_shown and "animated" in kind)


def test_an_upload_that_is_gone(tmp_path):
    with pytest.raises(UserError, match="long ago"):
        read_file(tmp_path / "image.png", LIMITS)


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


# What 7B shapes cost ----------------------------------------------------------------------------


def test_costs_are_those_of_the_documented_run():
    """The first table of docs/performance.md: name, batch, all, spread, times, stages in ms."""
    text = (ROOT / "docs/performance.md").read_text("utf-8")
    rows = [row.split(" | ") for row in re.findall(r"^\| (.*) \|$", text, re.M)]
    names = next(row for row in rows if row[0] == "ms per sample")[5:]

    def measured(name):
        row = next(row for row in rows if row[0] == name)
        seconds = [float(cell.replace(",", "") or "nan") / 1000 for cell in row[2:3] + row[5:]]
        return seconds[0], {k: pytest.approx(v) for k, v in zip(names, seconds[1:]) if v == v}

    for name, cost in (
        ("full", costs.FULL),
        ("prune, K = 36", costs.PRUNED),
        ("accm, K = 36", costs.WITH_CAPTION),
    ):
        assert (pytest.approx(cost.seconds), cost.stages) == measured(name)
        assert cost.tokens == (576 if name == "full" else 36)
    assert costs.TRANSFORMERS_SECONDS == pytest.approx(measured("hf")[0])
    assert "2 cores of an Intel Xeon (AVX-512, no AMX)" in costs.CONDITIONS
    assert "2 cores of an Intel Xeon (AVX-512, no AMX)" in text


def test_costs_are_said_to_be_of_another_model(mini):
    shown = panels.costs_elsewhere(mini, 36)
    assert "At LLaVA-1.5-7B&rsquo;s shapes" in shown and "not here" in shown
    assert "random weights, bfloat16" in shown and "12.3 s" in shown and "53.5 s" in shown
    assert "by an earlier version" in shown
    assert "36 of 144 tokens are 25%, as 144 of 576 would be, which was not measured." in shown
    assert "9 of 144 tokens are 6.25%, as 36 of 576 are." in panels.costs_elsewhere(mini, 9)
    bare = panels.costs_elsewhere(mini.without_captions(), 36)
    assert "9.8 s" in bare and "12.3 s" not in bare
    assert " of 144 tokens are" not in panels.costs_elsewhere(mini, 144)


def test_a_slower_pruned_answer_is_explained():
    pruned = {"encode": 0.1, "caption": 0.2, "select": 0.05, "prefill": 0.01, "decode": 0.02}
    full = {"encode": 0.1, "prefill": 0.03, "decode": 0.03}
    said = panels.why_slower(pruned, full)
    assert "The caption took 250.0 ms, and fewer tokens saved the LLM 30.0 ms" in said
    of_a_graph = {"relate" if stage == "caption" else stage: s for stage, s in pruned.items()}
    assert "The scene graph took 250.0 ms" in panels.why_slower(of_a_graph, full, "a scene graph")
    assert "saved the LLM nothing" in panels.why_slower(pruned | {"prefill": 0.05}, full)
    assert panels.why_slower(pruned, full | {"prefill": 0.5}) == ""  # it was faster
    assert panels.why_slower({"encode": 0.5, "prefill": 0, "decode": 0}, full) == ""  # no caption


def test_a_model_of_these_shapes_has_times_of_its_own():
    def model(patches, layers):
        config = SimpleNamespace(
            hidden_size=4096, intermediate_size=11008, num_hidden_layers=layers
        )
        return SimpleNamespace(
            count_tokens=lambda: patches,
            language_model=SimpleNamespace(llm=SimpleNamespace(config=config)),
        )

    assert costs.is_of_these_shapes(model(576, 32))
    assert panels.costs_elsewhere(model(576, 32), 36) == ""
    assert not costs.is_of_these_shapes(model(144, 32))
    assert not costs.is_of_these_shapes(model(576, 40))


# Long questions ---------------------------------------------------------------------------------

SENTENCE = "What color is the star that is northeast of the large blue circle? "


def test_the_text_tower_reads_no_further(mini):
    assert check_question(mini, STAR, 36, 128) is None
    said = check_question(mini, SENTENCE * 6, 36, 128)
    first, whole = (int(n) for n in re.search(r"first (\d+) of its (\d+) char", said).groups())
    most, count = mini.tower.max_text_length, lambda n: len(mini.clip_tokenizer.encode(n, 10**6))
    assert whole == len(SENTENCE * 6) and abs(count((SENTENCE * 6)[:first]) - most) <= 3
    assert "LongCLIP" not in said
    assert check_question(mini, SENTENCE * 6, 144, 128) is None  # nothing is picked by it
    assert check_question(mini, f"{STAR}\n{SENTENCE * 6}", 36, 128) is None  # the first line counts


def test_longclip_may_have_no_room_for_captions(mini, monkeypatch):
    monkeypatch.setattr(mini.compensator.caption_model.gpt.config, "n_positions", 1024)
    said = check_question(mini, SENTENCE * 14, 36, 128)
    assert "LongCLIP, which chooses a caption, may not see the captions' ends" in said
    assert "LongCLIP" not in check_question(mini.without_captions(), SENTENCE * 14, 36, 128)


@pytest.mark.parametrize(
    "part, repeats, captions", [("caption model", 14, True), ("language model", 200, False)]
)
def test_a_question_without_room_is_refused_and_the_advice_works(mini, part, repeats, captions):
    model = mini if captions else mini.without_captions()
    question = (SENTENCE * repeats).strip()
    with pytest.raises(UserError, match=f"too long for the {part}: shorten it by some") as told:
        check_question(model, question, 36, 128)
    over = int(re.search(r"by some ([\d,]+) of", str(told.value))[1].replace(",", ""))
    assert 0 < over < len(question)
    check_question(model, question[: len(question) - over - len(SENTENCE)], 36, 128)
    with pytest.raises(UserError):
        check_question(model, question[: len(question) - over + len(SENTENCE)], 36, 128)


@pytest.mark.parametrize("question", ["", " ", "at <image>", "a \ud800", None])
def test_what_is_no_question_is_refused(mini, question):
    with pytest.raises(UserError):
        check_question(mini, question, 36, 128)
