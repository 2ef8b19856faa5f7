"""Checks whether a sample can be answered, before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava.conversation import check_text
from llava.errors import TooLong, UserError
from llava.method import NO_TOKENS, Method
from llava.model.compensation.supplement import Gives
from llava.model.multimodal_encoder.visual_tokens import Needs, VisualTokens
from llava.model.sample import Sample, check_limits
from llava.model.token_pruning.registry import ALL, PRUNERS, check_views, find_pruner, fits_views

if TYPE_CHECKING:
    from llava.model.llava_arch import LlavaAccm


def check_sample(model: LlavaAccm, sample: Sample) -> None:
    """Refuses a sample that a model cannot answer.

    Raises:
        UserError: what is wrong with its budget, question, limits or decoding.
    """
    _check_method(model, sample)
    check_text("question", sample.question)
    for turn in sample.history:
        for text in turn:
            check_text("conversation so far", text)
    check_text("tower question (by default the first line)", sample.question_of_the_method)
    check_limits(sample)
    sample.decoding.check(model.language_model.is_compiled)
    if isinstance(sample.image, VisualTokens) and not sample.image.has(model.needs([sample])):
        raise UserError(
            "the image was encoded for another way to prune: encode it again with "
            "encode_images(pixels, model.needs([sample]))"
        )
    if model.compensator is not None and model.is_pruned(sample):
        _check_layers(model, sample, model.compensator.gives)
        model.compensator.check(sample.text_query)
    _check_length(model, sample)


def _check_method(model: LlavaAccm, sample: Sample) -> None:
    """Refuses an invalid budget, and options that the sample's pruner does not know or meet."""
    pruner = find_pruner(sample.pruner)
    check_views(sample, has_views(model))
    budget, num_patches = model.budget(sample), model.count_tokens(sample.image)
    if pruner is ALL and budget.visual_token_num != num_patches:
        raise UserError(
            f"the pruner {ALL.name} keeps all {num_patches} visual tokens, and "
            f"visual_token_num is {budget.visual_token_num}: leave one of the two out"
        )
    check_needs(model, sample)
    plan = model.pruning(sample).plan
    if plan is not None and model.language_model.is_compiled:
        raise UserError(
            f"--compile compiles all layers of the LLM as one, and the pruner {pruner.name} drops "
            "tokens between them: leave one of the two out"
        )
    if plan is not None and sample.num_beams > 1:
        raise UserError(
            f"the pruner {pruner.name} works inside the LLM, where there is no search with "
            f"num_beams {sample.num_beams}: use num_beams 1, or a pruner before the LLM"
        )
    if sample.text_token_num is not None and "text_token_num" not in pruner.option_names:
        raise UserError(
            f"text_token_num has no effect with the pruner {pruner.name}, in which the question "
            "picks no tokens: leave one of the two out"
        )


# What a model can miss: the values that pruners read, and their name in messages.
_OF_SPACE = (
    Needs.PATCH_EMBEDS
    | Needs.CLS_ATTENTION
    | Needs.FEATURE_EMBEDS
    | Needs.QUESTION
    | Needs.TEXT_EMBEDS
)


def check_needs(model: LlavaAccm, method: Method) -> None:
    """Refuses a pruner that reads what the model's towers do not have.

    Raises:
        UserError: names the pruners that read nothing else.
    """
    missing = model.needs([method]) & ~model.backbone.gives
    if not missing:
        return
    what, way = "a CLS token", ""
    if missing & _OF_SPACE:
        what, way = "CLIP's space of images and texts", "name CLIP with --side-tower FOLDER, or "
    raise UserError(
        f"the pruner {method.pruner} reads {what}, which the model's vision tower does not have: "
        f"{way}use one of {', '.join(usable_pruners(model))}"
    )


def usable_pruners(model: LlavaAccm) -> list[str]:
    """Returns the names of the pruners that keep some of the tokens, and that fit the model."""
    in_views = has_views(model)
    return [
        name
        for name, pruner in PRUNERS.items()
        if name not in (ALL.name, NO_TOKENS)
        and not pruner.needs & ~model.backbone.gives
        and fits_views(pruner, in_views)
    ]


def has_views(model: LlavaAccm) -> bool:
    """Returns whether the model reads an image in several views, each a grid of its own."""
    return len(model.backbone.views()) > 1


def _check_layers(model: LlavaAccm, sample: Sample, gives: Gives) -> None:
    """Refuses settings that call all LLM layers at once if a compensation changes each layer."""
    if not gives & (Gives.POSITION_IDS | Gives.KEY_BIAS):
        return
    if has_views(model):
        raise UserError(
            "the compensation rectify places tokens in one grid, and this model reads several "
            "views of an image with newline tokens between them: use another compensation"
        )
    rectifies = "the compensation rectify changes the attention in every layer of the LLM"
    if model.language_model.is_compiled:
        raise UserError(
            f"--compile compiles all layers of the LLM as one, and {rectifies}: leave one of the "
            "two out"
        )
    if sample.num_beams > 1:
        raise UserError(
            f"{rectifies}, where there is no search with num_beams {sample.num_beams}: use "
            "num_beams 1, or leave the compensation out"
        )


def check_outside(model: LlavaAccm, sample: Sample) -> None:
    """Refuses a sample whose prompt another engine cannot answer.

    Raises:
        UserError: its pruner, or its compensation, works inside the LLM.
    """
    gives = Gives.NOTHING if model.compensator is None else model.compensator.gives
    if model.pruning(sample).plan is not None:
        what = f"pruner {sample.pruner}"
    elif model.is_pruned(sample) and gives & (Gives.POSITION_IDS | Gives.KEY_BIAS):
        what = "compensation"
    else:
        return
    raise UserError(
        f"the {what} works inside the LLM, which another engine cannot do: use one before the LLM"
    )


def _check_length(model: LlavaAccm, sample: Sample) -> None:
    """Refuses a prompt that leaves no room for the answer."""
    llm = model.language_model
    length, room = model.prompt_length(sample), llm.context_length - sample.max_new_tokens
    if length > room:
        raise TooLong(
            f"the prompt takes {length} of the LLM's {llm.context_length} positions (with image "
            f"and caption), and {sample.max_new_tokens} are wanted for the answer: shorten the "
            "question, or ask for fewer new tokens",
            "language model",
            sample.question,
            (length - room) / len(llm.tokenizer.encode(sample.question)),
        )
