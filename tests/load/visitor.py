"""A program as a visitor of the page: it uploads an image, asks, and reads the answers."""

from __future__ import annotations

import json

import httpx

from llava.errors import UserError

TIMEOUT = 300  # seconds for one answer, waiting in the queue included


class Visitor:
    """A client of a page over HTTP, for the endpoint ``ask`` of Gradio's API.

    Args:
        address: URL of the page.
        user, password: the login, if the page needs one.
    """

    def __init__(self, address: str, user: str | None = None, password: str | None = None) -> None:
        # Proxies of the environment are for other addresses.
        self.http = httpx.Client(base_url=address, timeout=TIMEOUT, trust_env=False)
        if user is not None:
            self.log_in(user, password)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def log_in(self, user: str, password: str) -> None:
        """Logs in with name and password.

        Raises:
            UserError: The page does not accept them.
        """
        self._post("/login", data={"username": user, "password": password})

    def upload(self, data: bytes, name: str = "image.png") -> dict:
        """Uploads a file; returns its description for Visitor.ask.

        Raises:
            UserError: the page refuses it; the message is the page's.
        """
        (path,) = self._post("/gradio_api/upload", files=[("files", (name, data))]).json()
        return as_file(path)

    def ask(self, *inputs: object) -> dict:
        """Asks; returns Timed.record of the answers "pruned" and "full".

        Args:
            inputs: an uploaded image, a question, and the number of kept tokens.

        Raises:
            UserError: the page does not answer it; the message is the page's.
        """
        event = self.begin(*inputs)
        kind = None
        with self.http.stream("GET", f"/gradio_api/call/ask/{event}") as response:
            _check(response)
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "error":
                    raise UserError(_message(json.loads(value)))
                elif name == "data" and kind == "complete":
                    return json.loads(value)[0]
        raise UserError("the page went away in the middle of an answer")

    def begin(self, *inputs: object) -> str:
        """Asks without waiting for the answer; returns the event's id.

        Raises:
            UserError: the page refuses it; the message is the page's.
        """
        body = json.dumps({"data": inputs})
        headers = {"Content-Type": "application/json"}
        return self._post("/gradio_api/call/ask", content=body, headers=headers).json()["event_id"]

    def join(self, body: dict) -> str:
        """Asks as a browser does, without waiting for the answer; returns the event's id.

        Raises:
            UserError: the page refuses it; the message is the page's.
        """
        return self._post("/gradio_api/queue/join", json=body).json()["event_id"]

    def _post(self, path: str, **body: object) -> httpx.Response:
        response = self.http.post(path, **body)
        _check(response)
        return response


def as_file(path: object) -> dict:
    """Returns Gradio's description of an uploaded file."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _check(response: httpx.Response) -> None:
    if not response.is_success:
        text = response.read().decode("utf-8", "replace")
        try:
            text = _message(json.loads(text))
        except ValueError:  # not JSON: the text itself is the message
            pass
        raise UserError(f"{response.status_code}: {text}")


def _message(said: object) -> str:
    """Returns the message of a refusal."""
    if isinstance(said, dict):
        said = said.get("error") or said.get("detail")
    return said if isinstance(said, str) else json.dumps(said)
