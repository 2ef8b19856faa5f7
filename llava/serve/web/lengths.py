"""Questions that are too long for a part of the model, found by counting tokens."""

from __future__ import annotations

import math
import sys

from PIL import Image

from llava.errors import TooLong, UserError
from llava.model.compensation.compensator import Compensator
from llava.model.compensation.selector import selector_text
from llava.model.compensation.sums import find_term
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Sample

_NO_PICTURE = Image.new("RGB", (1, 1))  # lengths do not depend on it


def check_question(
    model: LlavaAccm, question: str, visual_token_num: int, max_new_tokens: int
) -> str | None:
    """Checks that a question can be answered from a number of visual tokens.

    Returns:
        A note on a part that does not read the question to its end, with advice, or None.

    Raises:
        UserError: It is not a question, or it is too long for a part.
    """
    sample = Sample(
        _NO_PICTURE, question, visual_token_num=visual_token_num, max_new_tokens=max_new_tokens
    )
    try:
        model.check(sample)
    except TooLong as error:
        length = len(error.question)
        raise UserError(
            f"the question is too long for the {error.part}: shorten it by some "
            f"{math.ceil(length * error.share):,} of its {length:,} characters"
        ) from error
    return _unread(model, sample.question_of_the_method) if model.is_pruned(sample) else None


def _unread(model: LlavaAccm, question: str) -> str | None:
    """Returns a note on what pruning and compensation do not read of a question."""
    most = model.tower.max_text_length
    length = len(model.clip_tokenizer.encode(question, sys.maxsize))
    if length <= most:
        return None
    first = len(question) * most // length
    crowded = ", and LongCLIP, which chooses a caption, may not see the captions' ends"
    return (
        "the question is long: CLIP's text tower, by which patches are kept, reads about the "
        f"first {first:,} of its {len(question):,} characters"
        f"{crowded if _is_crowded(model, question) else ''}; shorten it, or begin with what is"
        " asked"
    )


def _is_crowded(model: LlavaAccm, question: str) -> bool:
    """Returns whether question and longest caption together exceed LongCLIP's length."""
    parts = find_term(model.compensator, Compensator)
    if parts is None:
        return False
    length = parts.long_clip.tokenize([selector_text(question, "")]).shape[1]
    return length + parts.max_length > parts.long_clip.tower.context_length
