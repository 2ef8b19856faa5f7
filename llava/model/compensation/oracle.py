"""The oracle: texts from a file, to measure the value of a perfect text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from llava.errors import UserError, quoted
from llava.files import parse_json, read_text
from llava.model.compensation.supplement import (
    CompensationModule,
    Gives,
    PrunedSample,
    Supplement,
    TextQuery,
)
from llava.model.language_model.tokenizer import Tokenizer
from llava.model.prompt_ids import text_room
from llava.model.stopwatch import Stopwatch
from llava.utils.jsonl import read_lines

# A question by its id, or an image's file name and the question asked about it.
Key = str | tuple[str, str]
FORMAT = (
    'objects with "text" and "question_id", or with "text", "image" (a file\'s name) and "question"'
)


class Oracle(CompensationModule):
    """Gives the LLM the text that a file has for a question; a CompensationModule.

    Args:
        path: the source of the texts, for messages.
        texts: the texts by their keys; "" gives nothing.
    """

    gives = Gives.TEXT
    writes = "a text"

    def __init__(self, path: Path, texts: dict[Key, str]) -> None:
        self._path = path
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def check(self, query: TextQuery) -> None:
        """Refuses a question without a text.

        Raises:
            UserError: names the question, and the keys that were looked for.
        """
        self._text(query)

    def room(self, query: TextQuery, tokenizer: Tokenizer) -> int:
        """Returns the positions of the LLM to keep free for the question's text."""
        return text_room(self._text(query), tokenizer)

    def __call__(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[Supplement]:
        """Looks up the text of each sample; see CompensationModule."""
        texts = [self._text(sample.query) for sample in samples]
        return [Supplement(text or None, (text,), chosen=0) for text in texts]

    def _text(self, query: TextQuery) -> str:
        """Returns the text of a question, by its id or else by its image and what is asked."""
        keys = list(_keys_of(query.id, query.image_name, query.question, query.text))
        for key in keys:
            if key in self._texts:
                return self._texts[key]
        named = " or ".join(dict.fromkeys(map(_shown, keys))) or "a question without id and image"
        raise UserError(f"{self._path} has no text for {named}: add it, as {FORMAT}")


def read_oracle(path: Path) -> Oracle:
    """Reads the texts of a file: JSON (a list of objects, or texts by ids), or JSON lines.

    Raises:
        UserError: the file is missing or damaged, an object is not as FORMAT says, or two give
            different texts for one key.
    """
    texts: dict[Key, str] = {}
    for where, value in _entries(path):
        for key, text in _read_entry(value, f"{where} of {path}").items():
            if texts.setdefault(key, text) != text:
                raise UserError(f"{where} of {path} has another text for {_shown(key)}: keep one")
    if not texts:
        raise UserError(f"{path} has no texts: write {FORMAT}")
    return Oracle(path, texts)


def _entries(path: Path) -> Iterator[tuple[str, object]]:
    """Yields the objects of a file, each with its place in words."""
    try:
        whole = parse_json(read_text(path))
    except ValueError:  # several lines, or damaged ones
        for number, line in read_lines(path):
            if isinstance(line, str):
                raise UserError(line) from None
            yield f"line {number}", line
        return
    if isinstance(whole, dict) and "text" not in whole:
        whole = [{"question_id": key, "text": text} for key, text in whole.items()]
    for number, entry in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        yield f"entry {number}", entry


def _read_entry(value: object, where: str) -> dict[Key, str]:
    """Returns the text of an object, under each of its keys."""
    entry = value if isinstance(value, dict) else {}
    text = entry.get("text")
    number = entry.get("question_id")
    image, question = entry.get("image"), entry.get("question")
    by_id = isinstance(number, (str, int)) and not isinstance(number, bool)
    by_image = isinstance(image, str) and isinstance(question, str)
    if not isinstance(text, str) or not (by_id or by_image):
        raise UserError(f"{where} is {quoted(value)}: write {FORMAT}")
    name = Path(str(image)).name if by_image else None
    return dict.fromkeys(_keys_of(number if by_id else None, name, question), text)


def _keys_of(number: object, image: str | None, *questions: object) -> Iterator[Key]:
    """Yields the keys of a question, the most specific first."""
    if number is not None:
        yield str(number)
    if image is not None:
        yield from ((image, str(question)) for question in questions)


def _shown(key: Key) -> str:
    """Returns a key as messages name it."""
    if isinstance(key, str):
        return f"the question {quoted(key)}"
    return f"image {quoted(key[0])} with {quoted(key[1])}"
