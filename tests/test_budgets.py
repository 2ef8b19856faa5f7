"""Budgets of visual tokens: numbers, shares and all, from the word to K of an image."""

import pytest

from llava import arguments
from llava.arguments import AskArguments
from llava.budgets import count_kept, file_word, read_budget
from llava.errors import UserError
from llava.eval.bench.arguments import BenchArguments
from llava.eval.configurations import Configuration
from llava.eval.run_llava import RunLlavaArguments
from llava.eval.tracing import TraceArguments
from llava.method import Method
from llava.mini.measure import MeasureArguments
from llava.mini.measuring.arguments import ByBudgetArguments
from llava.model.multimodal_encoder import clip_encoder
from llava.model.token_pruning.registry import budget_of, pruning_of, resolved_num
from llava.serve.cli import CliArguments
from llava.serve.openai.arguments import ServeArguments
from llava.serve.web.arguments import WebArguments
from llava.train.stages.arguments import CaptionArguments, SelectorArguments
from llava.utils.flags import FlagParser

NO_BUDGETS = "0/9 10/9 1/0 0% 101% abc 1/9/2 1e9 nan -1/9 -5% ½ 1/ /9 % 1.5 0.0 All".split()
NO_BUDGETS += ["", "9" * 5000, "1/" + "9" * 5000]


@pytest.mark.parametrize(
    "word, num_tokens, kept",
    [
        ("1/9", 576, 64),
        ("11%", 576, 63),  # 63.36
        ("1/9", 144, 16),
        ("2/18", 144, 16),
        ("11.1%", 576, 64),  # 63.94
        ("1/9", 2880, 320),
        ("1/9", 1, 1),  # 0.11, but never none
        ("1/2", 5, 3),  # 2.5: halves up
        ("0.5", 7, 4),
        ("100%", 143, 143),
        ("1/1", 143, 143),
        ("all", 143, 143),
        (" 1 / 9 ", 576, 64),
        ("36", 20, 36),  # a number is checked where the largest image is known
    ],
)
def test_a_word_and_what_it_keeps(word, num_tokens, kept):
    assert count_kept(read_budget(word), num_tokens) == kept


@pytest.mark.parametrize("word", NO_BUDGETS)
def test_words_that_are_no_budgets(word):
    with pytest.raises(ValueError):
        read_budget(word)


def test_words_in_file_names():
    assert [file_word(read_budget(word)) for word in ("36", "1/9", "11%", "12.5%", "all")] == [
        *("36", "1of9", "11pct", "12.5pct", "all")
    ]
    assert Configuration("prune", "1/9").name == "prune-1of9"
    assert Configuration("full", "all").name == "full"


@pytest.mark.parametrize(
    "command, flag",
    [
        (AskArguments, "visual-token-num"),
        (TraceArguments, "visual-token-num"),
        (RunLlavaArguments, "visual-token-num"),
        (CliArguments, "visual-token-num"),
        (WebArguments, "visual-token-num"),
        (ServeArguments, "visual-token-num"),
        (MeasureArguments, "budget"),
        (SelectorArguments, "budget"),
    ],
)
def test_one_budget_of_a_command(command, flag, capsys):
    def read(word):
        return getattr(FlagParser(command, "x", "x").read([f"--{flag}", word]), name)

    name = flag.replace("-", "_")
    assert [read(word) for word in ("36", "1/9", "11%", "all")] == [36, "1/9", "11%", "all"]
    for word in ("10/9", "abc", "nan"):
        with pytest.raises(SystemExit):
            read(word)
        says = f"argument --{flag}: {word!r} is not a whole number, a share such as 1/9 or 11%"
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [BenchArguments, ByBudgetArguments, SelectorArguments, CaptionArguments]
)
def test_several_budgets_of_a_command(command, capsys):
    parser = FlagParser(command, "x", "x")
    assert parser.read(["--budgets", "36", "1/9", "11%"]).budgets == [36, "1/9", "11%"]
    with pytest.raises(SystemExit):
        parser.read(["--budgets", "36", "101%"])
    assert "'101%' is not a whole number, a share" in capsys.readouterr().err


@pytest.mark.parametrize(
    "asked, num_patches, most, kept, recorded",
    [
        (36, 576, None, 36, None),
        ("1/9", 576, None, 64, 64),
        ("1/9", 1176, 2880, 131, 131),  # 130.67
        ("all", 576, None, 576, None),
        ("all", 1176, 2880, 1176, 1176),
        (640, 1176, 2880, 640, None),
        (640, 600, 2880, 600, 600),  # nothing of a small image is pruned
        (2880, 2880, 2880, 2880, None),
    ],
)
def test_a_budget_is_resolved_for_each_image(asked, num_patches, most, kept, recorded):
    method = Method(asked)
    budget = budget_of(method, num_patches, most)
    assert budget.visual_token_num == kept
    assert budget.text_token_num == budget_of(Method(kept), num_patches, most).text_token_num
    pruning = pruning_of(method, num_patches, nearest=False, most=most)
    assert pruning == pruning_of(Method(kept), num_patches, nearest=False, most=most)
    assert resolved_num(method, num_patches, most or num_patches) == recorded


@pytest.mark.parametrize("asked", [0, -1, 2881, True, 1.5, 0.25, "36", *NO_BUDGETS])
def test_a_budget_that_no_image_has_says_what_there_is(asked):
    with pytest.raises(UserError, match="visual_token_num is .* whole number from 1 to 2880") as no:
        budget_of(Method(asked), 600, 2880)
    assert "share of them such as 1/9" in str(no.value) and len(str(no.value)) < 350


def test_numbers_above_the_image_are_errors_where_all_images_are_alike():
    for most in (None, 576):
        with pytest.raises(UserError, match="visual_token_num is 577.*from 1 to 576"):
            budget_of(Method(577), 576, most)


def test_the_question_picks_no_more_than_a_small_image_has():
    method = Method("1/2", text_token_num=100)
    assert budget_of(method, 60, 2880).text_token_num == 60
    assert pruning_of(method, 60, False, most=2880).options.text_token_num == 60
    with pytest.raises(UserError, match="text_token_num is 100"):
        budget_of(method, 60)


def test_no_image_and_all_tokens_have_nothing_to_record():
    assert resolved_num(Method("1/9", no_image=True), 576, 576) is None
    assert resolved_num(Method(pruner="zero"), 576, 576) is None
    assert resolved_num(Method(pruner="none"), 576, 576) is None
    assert resolved_num(Method(pruner="none"), 1176, 2880) == 1176


@pytest.mark.parametrize("share, kept", [("1/9", 64), ("11%", 63), ("all", 576)])
def test_the_constant_may_be_a_share(monkeypatch, share, kept):
    monkeypatch.setattr(clip_encoder, "VISUAL_TOKEN_NUM", share)
    assert budget_of(Method(), 576).visual_token_num == kept


@pytest.mark.parametrize("line, said", [("36", "36"), ('"1/9"', "1/9"), ("'11%'  # x", "11%")])
def test_the_help_tells_the_constant(monkeypatch, tmp_path, line, said):
    file = tmp_path / "llava" / "model" / "multimodal_encoder" / "clip_encoder.py"
    file.parent.mkdir(parents=True)
    file.write_text(f"X = 1\nVISUAL_TOKEN_NUM = {line}\n")
    monkeypatch.setattr(arguments, "PROJECT", tmp_path)
    assert (
        f"Default: {said} (VISUAL_TOKEN_NUM in" in arguments.budget_flag("Kept.").metadata["help"]
    )
