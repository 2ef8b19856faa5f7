"""The limits of the page on sizes and waiting times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of what visitors may send.

    Attributes:
        upload_bytes: Of an image file.
        pixels: Of an image; read from its header, before it is decoded.
        question_length: Characters.
        all_uploads_bytes: Of all kept files; the oldest are removed for new ones.
        upload_age: Seconds that a file is kept.
    """

    upload_bytes: int
    pixels: int
    question_length: int
    all_uploads_bytes: int
    upload_age: int


@dataclass(frozen=True)
class Patience:
    """The limits on waiting for browsers, and on their number.

    Attributes:
        head_seconds: For the lines before a request's body, from the first to the last.
        silent_seconds: Without any byte of an incomplete body.
        bytes_per_second: Of a body on average, after silent_seconds; a slow phone sends more.
        unread_seconds: Until a browser reads what is waiting for it.
        refused_seconds: For the end of a refused body, so that its browser can read why.
        wrong_password_seconds: That a wrong password takes.
        end_seconds: For the last answers when the page is stopped.
        connections: At once; the one that has been silent longest makes room for a new one.
    """

    head_seconds: float = 10
    silent_seconds: float = 20
    bytes_per_second: float = 2_000
    unread_seconds: float = 30
    refused_seconds: float = 60
    wrong_password_seconds: float = 1
    end_seconds: float = 1
    connections: int = 400
