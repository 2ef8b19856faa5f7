"""A failure as a client of the server sees it: OpenAI's error object."""

from __future__ import annotations

from collections.abc import Mapping

from llava.errors import quoted

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A failure with its HTTP status.

    Args:
        message: one line: what, where, and the way out.
        status: of HTTP.
        param: the field of the request that is wrong.
        code: a word for programs.
        headers: of the response.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict:
        """Returns OpenAI's error object."""
        usual = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, usual),
                "param": self.param,
                "code": self.code,
            }
        }


def no_model(asked: str, known: str) -> ApiError:
    """Returns the error of a request for another model than the one that there is."""
    return ApiError(
        f"there is no model {quoted(asked)} here, only {known!r}",
        404,
        param="model",
        code="model_not_found",
    )
