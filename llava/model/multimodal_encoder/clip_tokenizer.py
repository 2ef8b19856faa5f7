"""CLIP's tokenizer: the folder's own, or the standard vocabulary that open_clip ships."""

from __future__ import annotations

import gzip
from pathlib import Path

from transformers import CLIPTokenizer

from llava.model.loading.bpe import BPE_FILES, read_bpe

_NUM_MERGES = 49152 - 256 - 2  # lines of open_clip's file that belong to CLIP's vocabulary
_START, _END = "<|startoftext|>", "<|endoftext|>"


class ClipTokenizer:
    """Turns texts into the ids that CLIP's text tower reads.

    Args:
        folder: a CLIP checkpoint; one without tokenizer files means the standard vocabulary.
    """

    def __init__(self, folder: Path) -> None:
        own = any((folder / name).is_file() for name in BPE_FILES)
        self._tokenizer = read_bpe(CLIPTokenizer, folder) if own else _standard_tokenizer()

    def __len__(self) -> int:
        return len(self._tokenizer)

    def encode(self, text: str, max_length: int) -> list[int]:
        """Returns ids with start and end; a longer text is cut before the end's id."""
        ids = self._tokenizer(text, verbose=False)["input_ids"]
        if len(ids) <= max_length:
            return ids
        return ids[: max_length - 1] + [self._tokenizer.eos_token_id]


def _standard_tokenizer() -> CLIPTokenizer:
    """Returns CLIP's byte-pair vocabulary of 49408, from the merges that come with open_clip."""
    from open_clip.tokenizer import bytes_to_unicode, default_bpe  # slow to import

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : _NUM_MERGES + 1]]
    symbols = list(bytes_to_unicode().values())
    words = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + [_START, _END]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges)
