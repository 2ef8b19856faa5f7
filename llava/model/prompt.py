"""The token ids that the LLM reads: prompt, placeholder of the image, and caption in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llava.constants import CAPTION_HEADING, DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.conversation import DEFAULT_TEMPLATE, question_prompt
from llava.mm_utils import tokenizer_image_token
from llava.model.language_model.llama_tokenizer import LlamaTokenizer

# The caption is placed this many ids after the image's placeholder: after the newline (a dummy
# space and the newline itself) that follows it. The reference counts the ids without reading them.
CAPTION_OFFSET = 3

# Llama ids per id of the caption model, at most: texts of a language that both know take about 1.2;
# rare ones that would take more are cut at the end of the context.
_IDS_A_CAPTION_ID = 2


def prompt_ids(
    question: str,
    tokenizer: LlamaTokenizer,
    history: Sequence[tuple[str, str]] = (),
    caption: str | None = None,
    most: int | None = None,
    heading: str = CAPTION_HEADING,
    template: str = DEFAULT_TEMPLATE,
) -> list[int]:
    """Returns the ids of a question's prompt, after the turns before it.

    Args:
        question: the current question.
        tokenizer: the LLM's.
        history: questions and answers before it.
        caption: placed before the newest question, for which it was written. If that is the first
            question, the caption is between the image's newline and the question, as in the
            reference; later it is between the start of the turn ("USER: ") and a newline before
            the question.
        most: the largest number of ids; a longer caption is cut.
        heading: the heading of the caption.
        template: the name of the conversation template.

    Returns:
        Ids with one IMAGE_TOKEN_INDEX.
    """
    if caption is None:
        text = question_prompt(question, template, history)
        plain: Any = tokenizer_image_token(text, tokenizer.encode)
        return plain
    if history:  # a second placeholder, which no question may have, marks the caption's place
        ids = prompt_ids(
            f"{DEFAULT_IMAGE_TOKEN}\n{question}", tokenizer, history, template=template
        )
        end = len(ids) - 1 - ids[::-1].index(IMAGE_TOKEN_INDEX)
        before, after = ids[:end], ids[end + 1 :]
    else:
        ids = prompt_ids(question, tokenizer, template=template)
        end = ids.index(IMAGE_TOKEN_INDEX) + CAPTION_OFFSET
        before, after = ids[:end], ids[end:]
    room = None if most is None else max(0, most - len(before) - len(after))
    return before + caption_ids(caption, tokenizer, heading)[:room] + after


def caption_ids(
    caption: str, tokenizer: LlamaTokenizer, heading: str = CAPTION_HEADING
) -> list[int]:
    """Returns the ids of a caption with its heading, without the begin-of-text id."""
    return tokenizer.encode(f"{heading} {caption}")[1:]


def caption_room(max_length: int, tokenizer: LlamaTokenizer) -> int:
    """Returns the positions to keep free for a caption of at most ``max_length`` GPT-2 ids."""
    return text_room("", tokenizer) + _IDS_A_CAPTION_ID * max_length


def text_room(text: str, tokenizer: LlamaTokenizer, heading: str = CAPTION_HEADING) -> int:
    """Returns the positions to keep free for a text that is known, with its heading."""
    # In a conversation: dummy spaces before the caption and the newline, and the newline.
    around = 3
    return around + len(caption_ids(text, tokenizer, heading))
