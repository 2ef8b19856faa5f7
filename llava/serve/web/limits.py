"""How much the page takes, and how long it waits for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What visitors may bring.

    Attributes:
        upload_bytes: Of an image file.
        pixels: Of an image; told from its header, before it is decoded.
        question_length: Characters.
        all_uploads_bytes: Of all files that are kept; the oldest make room for another.
        upload_age: Seconds that a file is kept.
    """

    upload_bytes: int
    pixels: int
    question_length: int
    all_uploads_bytes: int
    upload_age: int


@dataclass(frozen=True)
class Patience:
    """How long the page waits for a browser, and for how many of them.

    Attributes:
        head_seconds: For the lines before a request's body, from the first to the last.
        silent_seconds: Without any byte of a body that is not whole.
        bytes_per_second: Of a body on average, after silent_seconds; a slow phone sends more.
        unread_seconds: Until a browser takes in what waits to be sent to it.
        refused_seconds: For a body to end that is dropped, so that its browser reads why.
        wrong_password_seconds: That a wrong password takes.
        end_seconds: For the last answers when the page is stopped.
        connections: At once; the one that is silent for the longest makes room for another.
    """

    head_seconds: float = 10
    silent_seconds: float = 20
    bytes_per_second: float = 2_000
    unread_seconds: float = 30
    refused_seconds: float = 60
    wrong_password_seconds: float = 1
    end_seconds: float = 1
    connections: int = 400
