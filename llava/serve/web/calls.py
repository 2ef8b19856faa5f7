"""Requests of browsers, rebuilt from only those parts that the page knows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.files import parse_json
from llava.serve.web.inputs import read_upload

_ASKED = 3  # values of a question without the last one, what chooses the tokens
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_object(body: bytes) -> dict:
    """Returns the JSON object in a request's body.

    Raises:
        UserError: It is not JSON, has invalid numbers or texts, or is not an object.
    """
    try:
        value = parse_json(body.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"the request is not valid JSON ({error!s:.200})") from error
    if not isinstance(value, dict):
        raise UserError("the request is no JSON object")
    return value


@dataclass(frozen=True)
class Calls:
    """The functions of the page that may be called, and their arguments.

    Gradio trusts other parts of a request: it fetches files from URLs, runs functions of other
    numbers, and fails on bad ones.

    Attributes:
        inputs: Number of values that each function takes, by its number.
        ask: The function that programs may call.
        files: The functions whose first value is an uploaded file.
        folder: The folder of the files that may be read, uploads and examples.
    """

    inputs: Mapping[int, int]
    ask: int
    files: frozenset[int]
    folder: Path

    def rewrite(self, body: bytes, by_program: bool) -> bytes:
        """Returns the JSON body of a call with only the parts that the page reads.

        Args:
            body: The body that was sent.
            by_program: Whether a program calls, which names neither the function nor its session.

        Raises:
            UserError: It is not such a call.
        """
        value = read_object(body)
        function: Any = self.ask
        called: dict[str, object] = {}
        if not by_program:
            function, session = value.get("fn_index"), value.get("session_hash")
            if type(function) is not int or function not in self.inputs:
                raise UserError("the page has no such function: load it again")
            if not isinstance(session, str) or not _SESSION.fullmatch(session):
                raise UserError("the session is none of this page: load it again")
            called = {"fn_index": function, "session_hash": session}
        data = value.get("data")
        if function == self.ask and isinstance(data, list) and len(data) == _ASKED:
            data = [*data, None]
        if not isinstance(data, list) or len(data) != self.inputs[function]:
            raise UserError(
                f"the data of the request are no list of {self.inputs[function]} values"
            )
        called["data"] = [
            self._file(item) if function in self.files and not place else _plain(item)
            for place, item in enumerate(data)
        ]
        return json.dumps(called).encode("ascii")

    def _file(self, value: object) -> dict | None:
        """Returns Gradio's description of a file, made only from the path of an upload."""
        if value is None:
            return None
        path = read_upload(value, self.folder)
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def _plain(value: object) -> object:
    if isinstance(value, (dict, list)):
        raise UserError("a value of the request is neither a text nor a number")
    return value
