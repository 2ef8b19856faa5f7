"""The text of an answer while its tokens come, up to the first text that ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # of a character of which bytes are missing
_WINDOW = 8  # tokens


class AnswerText:
    """Turns the tokens of one answer into pieces of its text, blanks around it removed.

    A piece is given as soon as nothing that may follow can change it: blanks, incomplete
    characters and the beginning of a text that would end the answer wait for what follows them.
    Only the last tokens are decoded with each new one: the cost of an answer grows with its length.

    Args:
        decode: decodes token ids to a text.
        stop: texts that end the answer; they are no part of it.

    Attributes:
        text: the answer so far.
        ids: its tokens.
        is_stopped: whether one of the texts has ended it.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = stop
        self._given = 0
        self._settled = ""  # the text of the tokens before the window
        self._start = self._end = 0  # the tokens of the window
        self.text = ""
        self.ids: list[int] = []
        self.is_stopped = False

    def add(self, token: int) -> str:
        """Returns the piece that can be given after the next token; often "" ."""
        if self.is_stopped:
            return ""
        self.ids.append(token)
        self.text = self._decoded()
        ends = [place for stop in self._stop if (place := self.text.find(stop)) >= 0]
        if ends:
            self.text, self.is_stopped = self.text[: min(ends)].rstrip(), True
        return self._piece(len(self.text) if ends else self._sure())

    def end(self) -> str:
        """Returns the last piece, when no token follows."""
        self.text = self.text.rstrip()
        return self._piece(len(self.text))

    def _decoded(self) -> str:
        """Returns the text of all tokens.

        A token is decoded with some before it, since the blank before it depends on them; and the
        window never begins inside a character.
        """
        before = self._decode(self.ids[self._start : self._end])
        rest = self._decode(self.ids[self._start :])[len(before) :]
        text = self._settled + rest
        if len(self.ids) - self._end >= _WINDOW and rest.strip() and not rest.endswith(INCOMPLETE):
            self._settled, self._start, self._end = text, self._end, len(self.ids)
        return text.lstrip()

    def _piece(self, sure: int) -> str:
        piece = self.text[self._given : sure]
        self._given += len(piece)
        return piece

    def _sure(self) -> int:
        """Returns the number of characters that what follows cannot change."""
        text = self.text.rstrip(INCOMPLETE).rstrip()
        sure = min((_before_begun(text, stop) for stop in self._stop), default=len(text))
        return len(text[:sure].rstrip())


def _before_begun(text: str, stop: str) -> int:
    """Returns the characters of a text before the beginning of ``stop`` that it may end with."""
    longest = min(len(stop) - 1, len(text))
    begun = next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
    return len(text) - begun
