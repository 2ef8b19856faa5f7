"""The token ids that the LLM reads: prompt, placeholder of the image, caption."""

from __future__ import annotations

from collections.abc import Sequence

from llava.constants import CAPTION_HEADING, IMAGE_TOKEN_INDEX
from llava.conversation import question_prompt
from llava.mm_utils import tokenizer_image_token
from llava.model.language_model.llama_tokenizer import LlamaTokenizer

# The caption goes this many ids behind the image's placeholder: behind the newline (a dummy blank
# and the newline itself) that follows it. The reference counts, it does not look.
CAPTION_OFFSET = 3


def prompt_ids(
    question: str, tokenizer: LlamaTokenizer, history: Sequence[tuple[str, str]] = ()
) -> list[int]:
    """Ids of a question's prompt, behind the turns before it, with one IMAGE_TOKEN_INDEX."""
    prompt = question_prompt(question, history=history)
    return tokenizer_image_token(prompt, tokenizer.encode)


def insert_caption(ids: list[int], caption: str, tokenizer: LlamaTokenizer) -> list[int]:
    """Puts "additional information: CAPTION" between the image's newline and the question."""
    place = ids.index(IMAGE_TOKEN_INDEX) + CAPTION_OFFSET
    return ids[:place] + caption_ids(caption, tokenizer) + ids[place:]


def caption_ids(caption: str, tokenizer: LlamaTokenizer) -> list[int]:
    """Ids of a caption with its heading, without the begin-of-text."""
    return tokenizer.encode(f"{CAPTION_HEADING} {caption}")[1:]
