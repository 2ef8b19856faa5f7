"""Llama's SentencePiece tokenizer, with the ids that LLaVA-1.5 was trained and recorded with.

transformers 5 tokenizes text around special tokens in another way (transformers 4.31's slow
tokenizer is the reference), so the sentencepiece library is used directly.
"""

from __future__ import annotations

import re
from pathlib import Path

import sentencepiece

from llava.errors import UserError
from llava.files import read_json
from llava.model.loading.foreign import refuse_foreign

_DUMMY = "▁"  # SentencePiece's space, which precedes the first word of a text


class LlamaTokenizer:
    """Text to token ids and back.

    Args:
        folder: has ``tokenizer.model`` and, if there is one, ``tokenizer_config.json``.

    Raises:
        UserError: there is no tokenizer.model, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.model"
        if not path.is_file():
            raise UserError(
                f"there is no tokenizer.model in {folder}: it comes with the LLaVA checkpoint; "
                "download it into that folder"
            )
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            refuse_foreign(path)
            self._pieces.LoadFromSerializedProto(path.read_bytes())
            special = (self._pieces.bos_id(), self._pieces.eos_id(), self._pieces.unk_id())
            self._special_ids = {self._pieces.id_to_piece(i): i for i in special}
        # sentencepiece's own, a text that is not Unicode, a special id that the file lacks.
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise UserError(f"{path} is damaged or cut short: download it again") from error
        config_path = folder / "tokenizer_config.json"
        config = read_json(config_path) if config_path.is_file() else {}
        self._legacy = config.get("legacy", True)
        self.bos_token_id, self.eos_token_id, self.unk_token_id = special
        self._splitter = re.compile("(" + "|".join(map(re.escape, self._special_ids)) + ")")

    def __len__(self) -> int:
        return self._pieces.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, the begin-of-text id first.

        ``<s> </s> <unk>`` in the text become special tokens.
        """
        ids = [self.bos_token_id]
        for place, segment in enumerate(self._splitter.split(text)):
            if segment in self._special_ids:
                ids.append(self._special_ids[segment])
            elif segment:
                ids += self._encode_segment(segment, first=place == 0)
        return ids

    def encode_more(self, text: str) -> list[int]:
        """Returns the ids of a text that follows others, without the begin-of-text id."""
        return self.encode(text)[1:]

    def _encode_segment(self, text: str, first: bool) -> list[int]:
        """Returns the ids of a text without special tokens.

        With "legacy": false (LLaVA-1.5's setting), text after a special token gets no dummy space;
        the reference removes it from the finished pieces, so a first word that is in the vocabulary
        only with its space becomes <unk>.
        """
        text = text.replace(_DUMMY, " ")
        pieces = self._pieces.encode(text, out_type=str)
        glued = not self._legacy and not first and not text.startswith(" ")
        if glued and pieces and pieces[0].startswith(_DUMMY):
            pieces = [p for p in (pieces[0][1:], *pieces[1:]) if p]
        return [self._pieces.piece_to_id(piece) for piece in pieces]

    def decode(self, ids: list[int]) -> str:
        """Returns the text of ids; special tokens and ids beyond the vocabulary are left out."""
        skipped = set(self._special_ids.values())
        known = [i for i in ids if 0 <= i < len(self) and i not in skipped]
        pieces = [self._pieces.id_to_piece(i) for i in known]
        if pieces and pieces[0].startswith(_DUMMY):
            pieces[0] = pieces[0][1:]
        return self._pieces.decode(pieces)
