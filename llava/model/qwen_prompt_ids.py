"""The token ids that Qwen2.5-VL reads: its chat template, the image's placeholder, a caption."""

from __future__ import annotations

from collections.abc import Sequence

from llava.constants import CAPTION_HEADING, IMAGE_TOKEN_INDEX
from llava.model.language_model.qwen_tokenizer import PLACEHOLDER, QwenTokenizer, check_one_image


def qwen_prompt_ids(
    question: str,
    tokenizer: QwenTokenizer,
    history: Sequence[tuple[str, str]] = (),
    caption: str | None = None,
    most: int | None = None,
    heading: str = CAPTION_HEADING,
) -> list[int]:
    """Returns the ids of a question's prompt, after the turns before it.

    Args:
        question: the current question.
        tokenizer: the LLM's.
        history: questions and answers before it.
        caption: placed before the newest question, for which it was written, on a line of its own.
        most: the largest number of ids; a longer caption is cut.
        heading: the heading of the caption.

    Returns:
        Ids with one IMAGE_TOKEN_INDEX.

    Raises:
        UserError: a text holds the tokens of another image, or of a video.
    """
    check_one_image(question, history)
    # A second placeholder, which no question may have, marks the caption's place.
    mark = "" if caption is None else PLACEHOLDER
    text = tokenizer.chat(mark + question, history)
    before, *rest = [tokenizer.encode(part) for part in text.split(PLACEHOLDER)]
    if caption is None:
        return [*before, IMAGE_TOKEN_INDEX, *rest[0]]
    ids, after = [*before, IMAGE_TOKEN_INDEX, *rest[0]], rest[1]
    given = tokenizer.encode(f"{heading} {caption}\n")
    room = None if most is None else max(0, most - len(ids) - len(after))
    return ids + given[:room] + after
