"""What download servers do, as data: a name, what is sent, and which files come whole in spite.

Doors are the files that are asked for: "hub", of which size and hash are known; "web", of which
nothing is; "zip", of which parts are read; "list", what the hub says of a repository.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@dataclass(frozen=True)
class Case:
    """A behaviour.

    Attributes:
        play: as the stand-in's behaviours are.
        right: doors at which the file comes whole; at the others it is refused in one line.
        doors: at which it is tried: elsewhere nobody could tell.
        timeout: seconds without a byte that are waited for.
        says: a pattern in each message.
    """

    play: object
    right: str = ""
    doors: str = "hub web zip list"
    timeout: float = 20
    says: str = ""


def answer(asked, body=None, status=None, length=..., cut=None, **headers) -> bytes:
    """The usual answer, changed: a part where one is asked for, with a length and an edition."""
    is_part = asked.start is not None and status is None
    part = asked.content[asked.start : asked.stop]
    body = part if body is None else body
    head = {
        "Content-Length": len(body) if length is ... else length,
        "ETag": '"first"',
        "Connection": "close",
    }
    if is_part:
        stop = asked.start + len(part) - 1
        head["Content-Range"] = f"bytes {asked.start}-{stop}/{len(asked.content)}"
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status or (206 if is_part else 200)} Whatever"]
    lines += [f"{name}: {value}" for name, value in head.items() if value is not None]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body[:cut]


def sends(*pieces: bytes):
    """The same bytes whatever is asked for."""
    return lambda asked: pieces


def says(**changes):
    """The usual answer, with something changed."""
    return lambda asked: [answer(asked, **changes)]


def status(code: int, **headers):
    """A status alone, each time."""
    return lambda asked: [answer(asked, b"", code, **headers)]


def first(count: int, play):
    """A behaviour of the first answers; then the server is sound."""
    return lambda asked: play(asked) if asked.number <= count else None


def every_second(play):
    """A behaviour of every second answer."""
    return lambda asked: play(asked) if asked.number % 2 else None


def chunked(asked, chunks: bytes, **headers) -> list[bytes]:
    more = {"length": None, "Transfer_Encoding": "chunked"} | headers
    return [answer(asked, b"", 200, **more) + chunks]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def moved(where: str, code: int = 302):
    return lambda asked: [answer(asked, b"", code, Location=where.format(url=asked.url))]


def hops(count: int):
    """So many redirects to itself before the answer."""
    return lambda asked: moved("?again")(asked) if asked.number % (count + 1) else None


def drip(head: bytes, asked) -> Iterator[bytes]:
    """Bytes one by one, each in time, without an end."""
    yield head
    while not asked.closing.wait(0.05):
        yield b"x"


def stall(asked, sent: bytes) -> Iterator[bytes]:
    yield sent
    asked.closing.wait(30)


def for_ever(asked, piece: bytes, head: bytes | None = None) -> Iterator[bytes]:
    """Bytes without an end, as fast as they are taken."""
    yield answer(asked, b"", length=None) if head is None else head
    while not asked.closing.is_set():
        yield piece


def other_edition(asked) -> list[bytes]:
    """The first third of another edition."""
    other = asked.content[:9] + bytes(len(asked.content))
    return [answer(asked, other[: len(asked.content)], 200, cut=3000, ETag='"older"')]


def later(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


def flip(asked) -> list[bytes]:
    """One byte of the middle of the file is another."""
    place = len(asked.content) // 2
    bad = asked.content[:place] + bytes([asked.content[place] ^ 1]) + asked.content[place + 1 :]
    return [answer(asked, bad[asked.start : asked.stop])]


CUTS = {
    "cut after each 3,000 bytes": Case(says(cut=3000), "hub web zip"),
    "cut after each byte of the first 20": Case(
        lambda asked: [answer(asked, cut=1)] if asked.number <= 20 else None, "hub web zip"
    ),
    "cut within each part, without ranges": Case(
        lambda asked: [answer(asked, asked.content, 200, cut=3000)], says="cut|parts|closed|body"
    ),
    "cut before the body, always": Case(says(cut=0)),
    "cut before the body, twice": Case(first(2, says(cut=0)), "hub web zip list"),
    "cut after a byte, once": Case(first(1, says(cut=1)), "hub web zip list"),
    "cut in the head": Case(lambda asked: [answer(asked)[:20]]),
    "cut in the head, once": Case(first(1, lambda a: [answer(a)[:20]]), "hub web zip list"),
    "cut before the last byte, once": Case(first(1, says(cut=-1)), "hub web zip list"),
    "cut before the last byte, always": Case(says(cut=-1)),
    "the line is closed without a word": Case(sends()),
    "the line is closed without a word, twice": Case(first(2, sends()), "hub web zip list"),
}
LENGTHS = {
    "a length that is too long": Case(lambda a: [answer(a, length=len(a.content) + 10)]),
    "a length that is too short": Case(
        lambda a: [answer(a, length=len(a.content[a.start : a.stop]) - 10)], doors="hub zip list"
    ),
    "no length": Case(says(length=None), "hub zip list", says="does not say how long"),
    "a negative length": Case(says(length=-5)),
    "a length in words": Case(says(length="many")),
    "two lengths": Case(lambda a: [answer(a, length=f"5\r\nContent-Length: {len(a.content)}")]),
    "a length of 10^17": Case(says(length=10**17)),
    "a length of 5,000 digits": Case(says(length="9" * 5000)),
    "a length of 0 with a body": Case(says(length=0)),
    "more than the length": Case(
        lambda a: [answer(a, Connection=None) + b"x" * 5000], "hub web zip list"
    ),
    "more than the length, for ever": Case(
        lambda a: for_ever(a, b"x" * 2**16, answer(a, Connection=None)), "hub web zip list"
    ),
    "no length and no end": Case(lambda a: for_ever(a, b"x" * 2**16)),
}
RANGES = {
    "parts begin too late": Case(
        lambda a: (
            first(1, says(cut=3000))(a)
            or (
                a.start
                and [answer(a, Content_Range=f"bytes {a.start + 7}-{a.stop}/{len(a.content)}")]
            )
            or None
        ),
        "hub web list",
    ),
    "a part that was not asked for": Case(
        lambda a: [answer(a, a.content[5:], 206, Content_Range=f"bytes 5-99/{len(a.content)}")]
    ),
    "the whole for a part": Case(
        lambda a: first(1, says(cut=3000))(a) or [answer(a, a.content, 200)], "hub web list"
    ),
    "206 without a range": Case(lambda a: [answer(a, a.content, 206)]),
    "206 for the whole": Case(
        lambda a: (
            [answer(a, None, 206, Content_Range=f"bytes 0-{len(a.content)}/{len(a.content)}")]
            if a.start is None
            else None
        ),
        "hub web zip",
    ),
    "another total in each part": Case(
        lambda a: [
            answer(a, cut=3000)
            if a.start is None
            else answer(a, Content_Range=f"bytes {a.start}-{a.stop - 1}/{10**6 + a.number}")
        ],
        "",
    ),
    "a total of 5,000 digits": Case(
        lambda a: [
            answer(a, cut=3000)
            if a.start is None
            else answer(a, Content_Range=f"bytes {a.start}-{a.stop - 1}/{'9' * 5000}")
        ]
    ),
    "a total that is not known": Case(
        lambda a: [
            answer(a, cut=3000)
            if a.start is None
            else answer(a, Content_Range=f"bytes {a.start}-{a.stop - 1}/*")
        ],
        "hub",
    ),
    "416 for each part": Case(
        lambda a: [answer(a, cut=3000) if a.start is None else answer(a, b"", 416)]
    ),
    "416 always": Case(status(416)),
    "parts that are shorter than asked for": Case(
        lambda a: [answer(a, a.content[a.start : a.start + 500])] if a.start else None,
        "hub web list",
    ),
    "parts that are longer than asked for": Case(
        lambda a: (
            first(1, says(cut=3000))(a) or [answer(a, a.content[a.start or 0 : a.stop] + b"x" * 99)]
        ),
    ),
    "several parts at once": Case(
        lambda a: (
            first(1, says(cut=3000))(a)
            or [answer(a, b"--x--", 206, Content_Type="multipart/byteranges; boundary=x")]
        )
    ),
    "half of another edition": Case(first(1, other_edition), "hub web zip list"),
    "another edition each time": Case(
        lambda a: [answer(a, cut=3000, ETag=f'"{a.number}"')], "hub zip"
    ),
}
STATUSES = {
    f"status {code}": Case(status(code))
    for code in (
        *(102, 204, 205, 300, 304, 306, 400, 401, 402, 403, 404, 405, 407, 408, 409, 410, 418),
        *(425, 429, 451, 500, 501, 502, 503, 504, 508, 511, 599, 999),
    )
} | {
    f"status {code} every second time": Case(every_second(status(code)), "hub web zip list")
    for code in (408, 429, 500, 502, 503, 504)
}
WAITS = {
    "Retry-After 0": Case(first(2, status(429, Retry_After="0")), "hub web zip list"),
    "Retry-After, a date that is gone": Case(
        first(2, lambda a: status(503, Retry_After=later(-99))(a)), "hub web zip list"
    ),
    "Retry-After, in words": Case(first(2, status(503, Retry_After="soon")), "hub web zip list"),
    "Retry-After, negative": Case(first(1, status(429, Retry_After="-9")), "hub web zip list"),
    "Retry-After, too long": Case(status(429, Retry_After="86400"), says="left alone for 86,400 s"),
    "Retry-After, of 5,000 digits": Case(status(429, Retry_After="9" * 5000), says="left alone"),
    "Retry-After, tomorrow": Case(
        lambda a: status(503, Retry_After=later(86400))(a), says="left alone for 86,[34]"
    ),
}
REDIRECTS = {
    "a redirect to itself": Case(moved("?again")),
    "five redirects": Case(hops(5), "hub web zip list"),
    "a redirect to file://": Case(moved("file:///etc/passwd")),
    "a redirect to ftp://": Case(moved("ftp://127.0.0.1/x")),
    "a redirect to data:": Case(moved("data:text/plain,x")),
    "a redirect to nobody": Case(moved("http://127.0.0.1:9/x")),
    "a redirect to a port that cannot be": Case(moved("http://127.0.0.1:99999/x")),
    "a redirect to half an address": Case(moved("http://[")),
    "a redirect to 90 kB": Case(moved("http://127.0.0.1:9/" + "x" * 90_000)),
    "a redirect to bytes that are no text": Case(moved("http://\xff\xfe/\x80")),
    "a redirect to nowhere": Case(status(302)),
    "a redirect into TLS": Case(lambda a: moved(a.url.replace("http:", "https:"))(a)),
    "a redirect to a page": Case(moved("{url}/page")),
}
PACKED = {
    "packed with gzip": Case(
        lambda a: [answer(a, gzip.compress(a.content), 200, Content_Encoding="gzip")]
    ),
    "said to be packed, and not": Case(says(Content_Encoding="gzip")),
    "packed with what nobody knows": Case(says(Content_Encoding="zopfli\x80")),
}
CHUNKED = {
    "in chunks": Case(
        lambda a: (
            chunked(a, chunk(a.content[:999]) + chunk(a.content[999:]) + b"0\r\n\r\n")
            if a.start is None
            else None
        ),
        "hub web zip list",
    ),
    "chunks without an end": Case(lambda a: chunked(a, chunk(a.content)), "hub"),
    "chunks that are cut": Case(lambda a: chunked(a, chunk(a.content)[:-99]), "", doors="hub web"),
    "chunks of garbage": Case(lambda a: chunked(a, b"zz\r\nxx\r\n")),
    "a chunk of a negative size": Case(lambda a: chunked(a, b"-5\r\nxx\r\n")),
    "a chunk of 16^30 bytes": Case(lambda a: chunked(a, b"f" * 30 + b"\r\nxx")),
    "chunks for ever": Case(lambda a: for_ever(a, chunk(b"x" * 2**16), chunked(a, b"")[0])),
    "chunks and a length": Case(
        lambda a: chunked(a, chunk(a.content) + b"0\r\n\r\n", Content_Length=7), doors="hub web"
    ),
}
SPEEDS = {
    "silence before the head": Case(lambda a: stall(a, b""), timeout=0.15),
    "silence in the head": Case(lambda a: stall(a, answer(a)[:30]), timeout=0.15),
    "silence in the body, always": Case(lambda a: stall(a, answer(a, cut=0)), timeout=0.15),
    "silence in the body, once": Case(
        first(1, lambda a: stall(a, answer(a, cut=1000))), "hub web zip list", timeout=0.5
    ),
    "silence after the last chunk": Case(
        lambda a: stall(a, chunked(a, chunk(a.content))[0]), "hub", "hub web", timeout=0.15
    ),
    "a head byte by byte": Case(lambda a: drip(b"HTTP/1.1 200 OK\r\nX: ", a), timeout=0.1),
    "a body byte by byte": Case(lambda a: drip(answer(a, b"", length=10**6), a), timeout=0.15),
    "a file byte by byte": Case(
        lambda a: drip(answer(a, cut=0), a), says="only|parts", doors="hub web zip", timeout=0.15
    ),
    "100 for ever": Case(lambda a: for_ever(a, b"HTTP/1.1 100 Continue\r\n\r\n", b""), timeout=0.1),
}
HEADS = {
    "a header of 1 MB": Case(says(X="x" * 2**20)),
    "10,000 headers": Case(lambda a: [answer(a, **{f"X{n}": "x" * 20 for n in range(10_000)})]),
    "a header without a colon": Case(lambda a: [b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n"]),
    "a NUL in a header": Case(says(X="a\0b")),
    "a Content-Type of junk": Case(says(Content_Type="\xff;;;=\x01"), "hub web zip list"),
    "an ETag of 50 kB": Case(says(ETag="x" * 50_000), "hub web zip list"),
    "a Set-Cookie of junk": Case(says(Set_Cookie="=;=;\x80=\xff"), "hub web zip list"),
    "no HTTP": Case(sends(b"SSH-2.0-OpenSSH_9.6\r\n")),
    "HTTP 0.9": Case(lambda a: [a.content]),
    "HTTP 9.9": Case(
        lambda a: [answer(a).replace(b"HTTP/1.1", b"HTTP/9.9", 1)], "hub web zip list"
    ),
    "TLS": Case(sends(b"\x15\x03\x01\x00\x02\x02\x46")),
    "a status of letters": Case(sends(b"HTTP/1.1 abc OK\r\n\r\n")),
    "100 alone": Case(sends(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "101": Case(sends(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nx")),
}
BODIES = {
    "an empty body": Case(lambda a: [answer(a, b"", 200)]),
    "a page": Case(lambda a: [answer(a, PAGE, 200, Content_Type="text/html; charset=utf-8")]),
    "a page that does not say so": Case(lambda a: [answer(a, PAGE, 200)]),
    "a page, once": Case(first(1, lambda a: [answer(a, PAGE, 200)]), "hub"),
    "an error as JSON": Case(lambda a: [answer(a, b'{"error": "Too many requests"}', 200)]),
    "other bytes of the same length": Case(
        lambda a: [answer(a, bytes(len(a.content)), 200)], doors="hub web zip list"
    ),
    "a byte that has flipped": Case(flip, doors="hub zip"),
}
BEHAVIOURS: dict[str, Case] = {
    **CUTS,
    **LENGTHS,
    **RANGES,
    **STATUSES,
    **WAITS,
    **REDIRECTS,
    **PACKED,
    **CHUNKED,
    **SPEEDS,
    **HEADS,
    **BODIES,
}
