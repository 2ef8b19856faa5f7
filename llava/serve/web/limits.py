"""The limits of the page on sizes and waiting times."""

from __future__ import annotations

from dataclasses import dataclass

from llava.arguments import flag


@dataclass
class Limits:
    """The limits of what visitors may send."""

    max_upload_bytes: int = flag("Largest image file.", 10 * 1024 * 1024)
    max_all_uploads_bytes: int = flag(
        "Room for all uploads together; the oldest make room for another.", 2**30
    )
    upload_age: int = flag("Seconds after which an upload is removed.", 3600)
    # Read from an image's header, before it is decoded.
    max_pixels: int = flag("Largest image, width times height.", 25_000_000)
    max_question_length: int = flag("Longest question in characters.", 1000)


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
