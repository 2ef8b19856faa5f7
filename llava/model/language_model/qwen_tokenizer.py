"""Qwen2.5-VL's tokenizer and chat template, by transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import Qwen2Tokenizer

from llava.errors import UserError, quoted, shown
from llava.model.loading.bpe import read_bpe

PLACEHOLDER = "<|image_pad|>"
# Texts that stand for images and videos, or enclose them.
_VISUAL = (PLACEHOLDER, "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
_TURN_END, _TEXT_END = "<|im_end|>", "<|endoftext|>"
# Qwen's template for chats with images, for a checkpoint that has none in its tokenizer's files.
_TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n"
    "{% for part in turn.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class QwenTokenizer:
    """Text to token ids and back, and conversations to text.

    Args:
        folder: a Qwen2.5-VL checkpoint.

    Raises:
        UserError: its tokenizer is missing, damaged or of another model.
    """

    bos_token_id = None  # texts have no begin-of-text id

    def __init__(self, folder: Path) -> None:
        self._tokenizer = read_bpe(Qwen2Tokenizer, folder)
        missing = [word for word in (*_VISUAL, _TURN_END) if len(self.encode(word)) != 1]
        if missing:
            raise UserError(
                f"the tokenizer in {folder} has no token {missing[0]}: it is not that of "
                "Qwen2.5-VL; fetch the folder again"
            )
        self.eos_token_id: int = self.encode(_TURN_END)[0]
        self._skipped = set(self._tokenizer.all_special_ids)
        try:
            probe = self.chat("", ())
        except Exception as error:  # a template may fail in any way
            reason = shown(str(error).strip().split("\n")[0])
            raise UserError(
                f"the chat template in {folder} is damaged ({reason}): fetch it again"
            ) from error
        if probe.count(PLACEHOLDER) != 1:
            raise UserError(
                f"the chat template in {folder} has no place for an image: fetch it again"
            )

    def __len__(self) -> int:
        return len(self._tokenizer)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end an answer: of the turn, and of the text."""
        ends = [self.encode(word) for word in (_TURN_END, _TEXT_END)]
        return tuple(ids[0] for ids in ends if len(ids) == 1)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text; special tokens in it become these."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def encode_more(self, text: str) -> list[int]:
        """Returns the ids of a text that follows others."""
        return self.encode(text)

    def decode(self, ids: list[int]) -> str:
        """Returns the text of ids; special tokens and ids beyond the vocabulary are left out."""
        known = [i for i in ids if 0 <= i < len(self) and i not in self._skipped]
        return self._tokenizer.decode(known, clean_up_tokenization_spaces=False)

    def chat(self, question: str, history: Sequence[tuple[str, str]]) -> str:
        """Returns a conversation in the checkpoint's own template, the image in its first turn.

        Args:
            question: the newest question.
            history: questions and answers before it.
        """
        turns = [turn for pair in history for turn in zip(("user", "assistant"), pair)]
        parts = [[{"type": "text", "text": text}] for _, text in (*turns, ("user", question))]
        parts[0] = [{"type": "image"}, *parts[0]]
        roles = [*(role for role, _ in turns), "user"]
        messages = [{"role": role, "content": part} for role, part in zip(roles, parts)]
        return self._tokenizer.apply_chat_template(
            messages,
            chat_template=self._tokenizer.chat_template or _TEMPLATE,
            tokenize=False,
            add_generation_prompt=True,
        )


def check_one_image(question: str, history: Sequence[tuple[str, str]]) -> None:
    """Refuses texts that hold the tokens of images or videos.

    Raises:
        UserError: names the first of them.
    """
    for text in (question, *(one for turn in history for one in turn)):
        for word in _VISUAL:
            if word in text:
                raise UserError(
                    f"a question or answer holds {quoted(word)}: a conversation is about one "
                    "image, whose place in the prompt is set already, and about no video; take it "
                    "out"
                )
