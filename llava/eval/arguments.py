"""Checks of the flags of commands that ask questions."""

from __future__ import annotations

from llava.arguments import AskArguments as AskArguments  # the old place
from llava.arguments import DecodingArguments as DecodingArguments
from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.method import DEFAULT_PRUNER
from llava.model.loading.placement import placement
from llava.model.token_pruning.registry import find_pruner


def check_device_map(args: ModelArguments) -> None:
    """Refuses --device-map on a CPU: there are no GPUs to spread the LLM over.

    Raises:
        UserError: --device-map is given, and the device is the CPU.
    """
    if args.device_map is not None and placement(args).device.type == "cpu":
        raise UserError(
            f"--device-map {args.device_map} spreads the LLM over GPUs, and --device {args.device} "
            "is the CPU: leave one of the two out"
        )


def check_method(args: AskArguments) -> None:
    """Refuses an unknown pruner, and flags for choosing visual tokens that it does not use.

    Raises:
        UserError: the flag cannot be used; the message names it.
    """
    pruner = find_pruner(args.pruner)
    is_other = pruner.name != DEFAULT_PRUNER
    given = {"--text-token-num": args.text_token_num is not None, "--pruner": is_other}
    for name, is_given in given.items():
        if args.no_image and is_given:
            raise UserError(
                f"{name} has no effect with --no-image, which keeps no visual token: leave one of "
                "the two out"
            )
    kept = {"none": "keeps all visual tokens", "zero": "keeps no visual token"}.get(pruner.name)
    if kept is not None and args.visual_token_num is not None:
        raise UserError(
            f"--visual-token-num has no effect with --pruner {pruner.name}, which {kept}: leave one "
            "of the two out"
        )
    if is_other and args.text_token_num is not None:
        raise UserError(
            f"--text-token-num has no effect with --pruner {pruner.name}, in which the question "
            "picks no tokens: leave one of the two out"
        )
