"""The page's JavaScript, which runs in the browser alone."""

from __future__ import annotations

import json
from pathlib import Path

from llava.mm_utils import IMAGE_FORMATS
from llava.serve.web.panels import fill


def read_template(name: str) -> str:
    """Returns a file of the folder templates."""
    return (Path(__file__).with_name("templates") / name).read_text("utf-8").strip()


# For screen readers: the answers have a name, and the pictures of examples are silent, since the
# questions beside them say the same.
LOAD = read_template("load.js")

# A question starts: the button says so, and a small screen scrolls to the answers. The function
# passes the question on.
BEGIN = read_template("begin.js")

# The question was answered.
ANSWERED = """() => {
  document.querySelector("button.ask").removeAttribute("aria-busy");
}"""

# The question failed: answers that the server has not removed belong to an older question, and the
# page scrolls to a field with a problem.
FAILED = read_template("failed.js")

# An uploaded file was checked: shows the note on it, unless another file has replaced it. A bad
# file is removed.
LOOKED = """(image, looked) =>
  image?.path === looked.path ? [looked.is_good ? undefined : null, looked.note] : undefined"""

_REFUSE = read_template("refuse.js")


def refuse_files(upload_bytes: int) -> str:
    """Returns the script that reports, beside the picture, files that Gradio would not send.

    Args:
        upload_bytes: size of the largest file.
    """
    kind = f"the file is no image, or empty: choose one of {', '.join(IMAGE_FORMATS)}"
    size = f"the file has more than {upload_bytes:,} bytes, the limit of this page: save it smaller"
    said = {"kind": fill("problem", kind), "size": fill("problem", size)}
    return f"const MOST = {upload_bytes}, SAID = {json.dumps(said)};{_REFUSE}"
