"""Chat, page, server and records on models whose images differ in their number of tokens."""

import io
import json
from types import SimpleNamespace

import pytest

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.eval import model_vqa_loader, trace
from llava.eval.figure import trace_picture, view_note
from llava.eval.tracing import answer_record
from llava.method import Method
from llava.model import builder
from llava.model.builder import load_from_arguments
from llava.model.checks import check_sample
from llava.model.sample import Sample
from llava.serve import cli
from llava.serve.accm import Accm
from llava.serve.web import panels
from llava.serve.web.answering import Answerer
from llava.serve.web.arguments import Limits
from llava.serve.web.inputs import SOME_TOKENS
from llava.serve.web.page import Page
from tests.helpers.chat_client import MODEL, png
from tests.helpers.tiny_next import SIDE, tiny_next
from tests.helpers.tiny_qwen import MOST, drawn, load_tiny_qwen, make_tiny_qwen

QUESTION = "What is this?"
BASE = SIDE**2
WIDE = drawn(168, 84)  # of LLaVA-NeXT: the base view and two tiles; of Qwen2.5-VL: 18 tokens
SMALL = drawn(3, 400)  # of LLaVA-NeXT: the base view alone, for the tiles show padding only


@pytest.fixture(scope="module")
def tiled(tmp_path_factory, checkpoints):
    made = tiny_next(tmp_path_factory.mktemp("next"), checkpoints / "llava-v1.5-tiny")
    args = ModelArguments(
        str(made.nested), vision_tower=str(made.clip), compensation="none", device="cpu"
    )
    return SimpleNamespace(model=load_from_arguments(args), args=args)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen") / "Qwen2.5-VL-tiny"
    make_tiny_qwen(folder)
    return load_tiny_qwen(folder)


def ask(image, **how):
    return Sample(image, QUESTION, **(dict(max_new_tokens=3, pruner="fastervlm") | how))


# The server, and what is written to disk ------------------------------------------------------


def test_the_server_explains_what_the_trace_records(open_server, tiled, qwen):
    """The views, and the number of an image that is not the one asked for."""
    for model, small, count in ((tiled.model, SMALL, BASE), (qwen, drawn(28, 28), 4)):
        settings = dict(pruner="fastervlm", compensation="none", served_model_name=MODEL)
        with open_server(model, **settings) as client:
            for image, budget in ((WIDE, 4), (WIDE, "1/4"), (WIDE, "all"), (small, 60)):
                (own,) = model.answer([ask(image, visual_token_num=budget)])
                accm = {"visual_token_num": budget, "explain": True}
                found = client.ask(QUESTION, png(image), accm=accm, max_tokens=3)
                said, recorded = found["accm"], answer_record(own)
                for name in ("kept_idx", "views", "newline_tokens", "visual_token_num"):
                    assert said.get(name) == recorded.get(name), (name, budget)
                assert ("views" in said) == (model is tiled.model and image is WIDE)
                used = found["usage"]["prompt_tokens_details"]
                assert used["visual_tokens"] == len(own.kept_idx)
                whole = model.count_tokens(image)
                assert used["dropped_visual_tokens"] == whole - len(own.kept_idx)
                assert found["usage"]["prompt_tokens"] == own.input_length
        # By hand: the last one was small. Nothing is pruned, and the number is that of the image.
        assert own.pruned is None and said["kept_idx"] == list(range(count))
        assert said["visual_token_num"] == count == said["mean_visual_tokens"]
        assert said["reasons"] == [] and used["dropped_visual_tokens"] == 0


def test_trace_and_journal_say_that_nothing_was_pruned(tiled, tmp_path, capsys):
    SMALL.save(tmp_path / "small.png")
    question = {"question_id": 1, "image": "small.png", "text": QUESTION}
    (tmp_path / "questions.jsonl").write_text(json.dumps(question) + "\n")
    shared = dict(
        model_path=tiled.args.model_path, vision_tower=tiled.args.vision_tower, device="cpu",
        compensation="none", visual_token_num=60, max_new_tokens=2,
    )  # fmt: skip

    def run(command, **own):
        flags = (shared | own).items()
        return command([str(w) for k, v in flags for w in (f"--{k.replace('_', '-')}", v)])

    assert run(trace.main, image=tmp_path / "small.png", question=QUESTION) == 0
    records = [json.loads(capsys.readouterr().out)]
    files = dict(question_file=tmp_path / "questions.jsonl", answers_file=tmp_path / "a.jsonl")
    assert run(model_vqa_loader.main, image_folder=tmp_path, **files) == 0
    journal = tmp_path / "a.jsonl.run" / "answers-0.jsonl"
    lines = map(json.loads, journal.read_text().splitlines())
    records += [line["trace"] for line in lines if "trace" in line]
    assert len(records) == 2
    for record in records:
        assert record["visual_token_num"] == BASE and record["kept_idx"] == list(range(BASE))


# The page -------------------------------------------------------------------------------------


@pytest.fixture
def open_parts(tmp_path):
    """A page that is not served, with a way to upload images to it."""

    def start(model, budgets=(9, BASE)):
        drawn(84, 84).save(tmp_path / "example.png")
        answerer = Answerer(model, Method(pruner="fastervlm"), 3)
        examples = [(str(tmp_path / "example.png"), QUESTION)]
        page = Page(answerer, Limits(), tmp_path.resolve(), examples, budgets)
        return page, page._parts

    def upload(image):
        path = tmp_path.resolve() / f"{image.width}x{image.height}.png"
        image.save(path)
        return {"path": str(path)}

    return start, upload


def test_the_slider_has_the_range_of_the_image(open_parts, tiled, qwen, mini):
    start, upload = open_parts
    for model in (tiled.model, qwen):
        page, parts = start(model)
        for image in (WIDE, drawn(84, 168), drawn(300, 200)):
            whole = model.count_tokens(image)
            found = page.check_image(upload(image), 9)[parts.budget]
            assert (found.maximum, found.label) == (whole, f"Tokens to keep, of {whole}")
    page, parts = start(mini)
    assert parts.budget not in page.check_image(upload(WIDE), 9)  # it is always the same


def test_the_page_offers_the_pruners_that_fit_the_model(open_parts, tiled, qwen, mini):
    start, upload = open_parts
    offered = {}
    for name, model in {"mini": mini, "tiled": tiled.model, "qwen": qwen}.items():
        page, parts = start(model)
        offered[name] = [choice for choice, _ in parts.pruner.choices]
        image = drawn(84, 84)
        for pruner in SOME_TOKENS:
            sample = ask(image, pruner=pruner, visual_token_num="1/2")
            if pruner in offered[name]:
                check_sample(model, sample)
            else:
                with pytest.raises(UserError, match=f"the pruner {pruner} "):
                    check_sample(model, sample)
    assert offered["mini"] == SOME_TOKENS
    assert set(SOME_TOKENS) - set(offered["tiled"]) == {
        "fastv", "pyramiddrop", "sparsevlm", "dart", "vscan_llm",
    }  # fmt: skip
    assert "accm" not in offered["qwen"] and "fastv" in offered["qwen"]


def test_counts_of_the_page_are_those_of_the_image(open_parts, tiled):
    start, upload = open_parts
    page, parts = start(tiled.model)
    whole = tiled.model.count_tokens(WIDE)
    shown = {}
    for changes in page.ask(upload(WIDE), QUESTION, 20):
        shown |= changes
    assert f"20 of {whole} tokens" in shown[parts.pruned] and f"All {whole} " in shown[parts.full]
    assert f"20 of {whole} patches kept" in shown[parts.overlay]
    assert f" of the {BASE} tokens of the base view are kept" in shown[parts.overlay]
    assert f"20 of {whole} tokens are" in shown[parts.stages]
    state = shown[parts.shown]
    for changes in page.move(state, 5 * BASE):  # of the largest image: all of this one's
        shown |= changes
    assert shown[parts.pruned] == "" and f"{whole} of {whole} patches kept" in shown[parts.overlay]


def test_a_picture_that_the_model_cannot_read_is_told_at_its_upload(open_parts, qwen):
    start, upload = open_parts
    page, parts = start(qwen)
    changes = page.check_image(upload(drawn(1, 300)), 9)
    assert not changes[parts.looked]["is_good"] and "200" in changes[parts.looked]["note"]


def test_the_time_of_a_tower_beside_the_model_s_own_is_shown():
    shown = panels.stage_bars([("few", {"encode": 0.1, "side tower": 0.3, "decode": 0.1})])
    assert "side tower: 300.0 ms" in shown and "500 ms" in shown


# Chat, Python, pictures -----------------------------------------------------------------------


def test_the_chat_counts_the_tokens_of_its_image(tiled, monkeypatch, capsys, tmp_path):
    SMALL.save(tmp_path / "small.png")
    WIDE.save(tmp_path / "wide.png")
    monkeypatch.setattr(builder, "load_from_arguments", lambda args: tiled.model)
    lines = ["/tokens 60", "/tokens", QUESTION, "/why", f"/image {tmp_path / 'wide.png'}"]
    lines += ["/tokens", QUESTION, "/why", "/tokens 181"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    flags = ["--image-file", str(tmp_path / "small.png"), "--max-new-tokens", "2"]
    assert cli.main([*flags, "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    whole = tiled.model.count_tokens(WIDE)
    assert "60 visual tokens, of which this image has 36, from now on\n" in out
    assert "60 visual tokens, of which this image has 36\n" in out
    assert f"{BASE} of {BASE} visual tokens kept\nms:" in out
    assert f"60 of {whole} visual tokens\n" in out and "by view, the base view first: " in out
    assert "newline tokens: " in out and "from 1 to 180" in err


def test_python_says_that_images_differ(tiled, qwen):
    assert f"1/9 of up to {5 * BASE} visual tokens" in repr(Accm(tiled.model, "1/9"))
    assert f"9 of up to {MOST} visual tokens" in repr(Accm(qwen, 9))


def test_a_picture_of_several_views_says_what_it_shows(tiled, qwen):
    model, whole = tiled.model, tiled.model.count_tokens(WIDE)
    kept = [0, 5, BASE - 1, BASE, whole - 1]
    assert view_note(model, WIDE, kept) == (
        f"3 of the {BASE} tokens of the base view are kept, and of the tiles, whose patches are "
        f"smaller, 2 of {whole - BASE}"
    )
    assert view_note(qwen, WIDE, [0, 1]) == "" == view_note(model, SMALL, [0])
    (answer,) = model.answer([ask(WIDE, visual_token_num=20)])
    assert trace_picture(model, WIDE, QUESTION, answer).height >= 672
