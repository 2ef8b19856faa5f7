"""The token ids that the LLM reads: prompt, placeholder of the image, caption."""

from __future__ import annotations

from llava.constants import IMAGE_TOKEN_INDEX
from llava.conversation import question_prompt
from llava.mm_utils import tokenizer_image_token
from llava.model.language_model.llama_tokenizer import LlamaTokenizer

# The caption goes this many ids behind the image's placeholder: behind the newline (a dummy blank
# and the newline itself) that follows it. The reference counts, it does not look.
CAPTION_OFFSET = 3


def prompt_ids(question: str, tokenizer: LlamaTokenizer) -> list[int]:
    """Ids of a question's prompt, with one IMAGE_TOKEN_INDEX."""
    return tokenizer_image_token(question_prompt(question), tokenizer.encode)


def insert_caption(ids: list[int], caption: str, tokenizer: LlamaTokenizer) -> list[int]:
    """Puts "additional information: CAPTION" between the image's newline and the question."""
    place = ids.index(IMAGE_TOKEN_INDEX) + CAPTION_OFFSET
    text_ids = tokenizer.encode(f"additional information: {caption}")
    return ids[:place] + text_ids[1:] + ids[place:]
