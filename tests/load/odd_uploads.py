"""Forms that no browser sends."""

from __future__ import annotations

from tests.load.raw import BOUNDARY, file_part, head

_END = b"\r\n--" + BOUNDARY + b"--\r\n"


def odd_uploads(address: str, picture: bytes) -> dict[str, bytes]:
    """Returns whole requests by what is odd about them.

    Args:
        address: Of the page.
        picture: An image file.
    """
    one = file_part(picture)
    forms = {
        "an unfinished form": one,
        "a form cut in a header": file_part(b"")[:40],
        "another field name": file_part(picture, name="other") + _END,
        "no field name": file_part(picture).replace(b'name="files"; ', b"") + _END,
        "a file called ..": file_part(picture, filename="..") + _END,
        "a file called .": file_part(picture, filename=".") + _END,
        "an empty file name": file_part(picture, filename="") + _END,
        "an absolute name": file_part(picture, filename="/etc/cron.d/x.png") + _END,
        "a name with a path": file_part(picture, filename="../../../x.png") + _END,
        "a name of 5,000 characters": file_part(picture, filename="x" * 5_000) + _END,
        "a name with a zero byte": file_part(picture, filename="a\0.png") + _END,
        "a form within a file": file_part(one + _END) + _END,
        "a nested multipart": file_part(b"").replace(
            b"\r\n\r\n",
            b"\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\nx--in--",
        )
        + _END,
        "an empty file": file_part(b"") + _END,
        "two files": one + b"\r\n" + one + _END,
        "10,000 parts": (file_part(b"x") + b"\r\n") * 10_000 + _END,
        "10,000 fields": (file_part(b"x").replace(b'; filename="a.png"', b"") + b"\r\n") * 10_000
        + _END,
        "a part with 10,000 headers": file_part(picture).replace(
            b"\r\n\r\n", b"\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", 1
        )
        + _END,
        "a text in the place of the file": one.replace(b'; filename="a.png"', b"") + _END,
        "nothing": b"",
        "no form": b"x" * 1_000,
    }
    whole = {kind: _post(address, form) for kind, form in forms.items()}
    whole["no boundary"] = _post(address, one + _END, "multipart/form-data")
    whole["a boundary of 5,000 characters"] = _post(
        address, one + _END, "multipart/form-data; boundary=" + "b" * 5_000
    )
    whole["no content type"] = _post(address, one + _END, "")
    whole["a shorter length"] = _post(address, one + _END, length=100)
    whole["a longer length, and no more"] = _post(address, one, length=len(one) + 50)
    return whole


def _post(
    address: str,
    form: bytes,
    content: str = f"multipart/form-data; boundary={BOUNDARY.decode()}",
    length: int | None = None,
) -> bytes:
    said = f"Content-Length: {len(form) if length is None else length}"
    headers = [f"Content-Type: {content}"] if content else []
    return head(address, "POST /gradio_api/upload", said, *headers) + b"\r\n" + form
