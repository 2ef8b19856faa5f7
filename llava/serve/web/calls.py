"""Questions as a browser sends them, made anew of what the page knows of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llava.errors import UserError
from llava.files import parse_json
from llava.serve.web.uploads import NOT_UPLOADED, find_upload

_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_object(body: bytes) -> dict:
    """Returns the object that a request's body holds.

    Raises:
        UserError: It is no JSON, has numbers or texts that are none, or is something else.
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
    """The functions of the page that may be called, and with what.

    Gradio believes what else stands in a request: it fetches files from addresses, runs functions
    of other numbers, and stumbles.

    Attributes:
        inputs: How many values each function takes, by its number.
        ask: The function that programs may call.
        files: The functions whose first value is an uploaded file.
        folder: Of uploads.
    """

    inputs: Mapping[int, int]
    ask: int
    files: frozenset[int]
    folder: Path

    def rewrite(self, body: bytes, by_program: bool) -> bytes:
        """Returns the JSON body of a call with nothing in it but what the page reads.

        Args:
            body: As it was sent.
            by_program: It says neither which function it calls nor of which session it is.

        Raises:
            UserError: It is no such call.
        """
        value = read_object(body)
        function, called = self.ask, {}
        if not by_program:
            function, session = value.get("fn_index"), value.get("session_hash")
            if type(function) is not int or function not in self.inputs:
                raise UserError("the page has no such function: load it again")
            if not isinstance(session, str) or not _SESSION.fullmatch(session):
                raise UserError("the session is none of this page: load it again")
            called = {"fn_index": function, "session_hash": session}
        data = value.get("data")
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
        """Returns what Gradio calls a file, of nothing but the path of an upload."""
        if value is None:
            return None
        path = find_upload(value.get("path") if isinstance(value, dict) else None, self.folder)
        if path is None:
            raise UserError(NOT_UPLOADED)
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def _plain(value: object) -> object:
    if isinstance(value, (dict, list)):
        raise UserError("a value of the request is neither a text nor a number")
    return value
