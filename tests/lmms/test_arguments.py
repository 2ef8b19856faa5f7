"""lmms-eval's model arguments: texts that get types, and mistakes that get messages."""

import pytest

from llava.errors import UserError
from llava.lmms.arguments import read_arguments


def test_texts_get_their_types():
    args = read_arguments(
        {
            "pretrained": "checkpoints/accm-mini",
            "visual_token_num": "36",
            "text_token_num": 20,
            "compensation": "False",
            "no_image": True,
            "batch_size": "4",
            "device": "cpu",
            "patch_post_layernorm": "true",
            "pruner": "scope",
            "pruner_options": "alpha=2 combined:add",
        }
    )
    assert args.model_path == "checkpoints/accm-mini" and args.device == "cpu"
    assert (args.visual_token_num, args.text_token_num, args.batch_size) == (36, 20, 4)
    assert not args.has_captions and args.no_image is True
    assert args.patch_post_layernorm is True
    assert (args.pruner, args.pruner_options) == ("scope", ["alpha=2", "combined=add"])
    assert args.max_new_tokens == 1024 and args.dtype == "auto"


@pytest.mark.parametrize(
    "given, budget", [("36", 36), (36, 36), ("1/9", "1/9"), ("11%", "11%"), (0.25, "0.25")]
)
def test_a_budget_may_be_a_share(given, budget):
    args = read_arguments({"pretrained": "tiny", "visual_token_num": given})
    assert args.method.visual_token_num == budget


def test_a_path_may_be_a_number():
    assert read_arguments({"pretrained": 7}).model_path == "7"


@pytest.mark.parametrize(
    "given, says",
    [
        ({}, "say which model: --model_args pretrained=FOLDER"),
        ({"model_path": "x"}, "no model argument model_path; there are: pretrained, "),
        ({"pretrained": "x", "fast": 1, "slow": 1}, "no model argument fast, slow"),
        ({"pretrained": "x", "visual_token_num": "many"}, "is 'many'; it must be a whole number"),
        ({"pretrained": "x", "visual_token_num": 36.5}, "is 36.5; it must be a whole number"),
        ({"pretrained": "x", "visual_token_num": True}, "is True; it must be a whole number"),
        ({"pretrained": "x", "no_image": "maybe"}, "is 'maybe'; it must be true or false"),
        ({"pretrained": "x", "no_image": 1}, "is 1; it must be true or false"),
        ({"pretrained": "x", "compensation": "maybe"}, "no compensation 'maybe': use caption+sel"),
        ({"pretrained": "x", "batch_size": "auto"}, "is 'auto'; it must be a whole number"),
        ({"pretrained": "x", "batch_size": "0"}, "batch_size is 0; it must be at least 1"),
        ({"pretrained": "x", "max_new_tokens": -1}, "max_new_tokens is -1"),
    ],
)
def test_what_is_no_argument(given, says):
    with pytest.raises(UserError) as error:
        read_arguments(given)
    assert says in str(error.value)
