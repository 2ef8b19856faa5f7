"""The page's JavaScript, which runs in the browser alone."""

from __future__ import annotations

import json

from llava.mm_utils import IMAGE_FORMATS
from llava.serve.web.panels import problem

# For screen readers: the answers have a name, and the pictures of examples are silent, since the
# questions beside them say the same.
LOAD = """() => {
  const answers = document.querySelector(".answers");
  Object.assign(answers, {tabIndex: -1, role: "region", ariaLabel: "Answers"});
  document.querySelectorAll("button.example img").forEach((image) => { image.alt = ""; });
}"""

# A question starts: the button says so, and a small screen scrolls to the answers. The function
# passes the question on.
BEGIN = """(...inputs) => {
  const answers = document.querySelector(".answers");
  document.querySelector("button.ask").setAttribute("aria-busy", "true");
  delete answers.dataset.old;
  const top = answers.getBoundingClientRect().top;
  if (top < 0 || top > 0.7 * window.innerHeight) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    answers.focus({preventScroll: true});
    answers.scrollIntoView({behavior: still ? "instant" : "smooth", block: "start"});
  }
  return inputs;
}"""

# The question was answered.
ANSWERED = """() => {
  document.querySelector("button.ask").removeAttribute("aria-busy");
}"""

# The question failed: answers that the server has not removed belong to an older question, and the
# page scrolls to a field with a problem.
FAILED = """() => {
  document.querySelector("button.ask").removeAttribute("aria-busy");
  document.querySelector(".answers").dataset.old = "";
  const look = (times) => {  // a busy browser may show the note later
    const field = document.querySelector(".problem")?.closest(".field");
    if (!field) return times && setTimeout(look, 100, times - 1);
    window.scrollTo({top: window.scrollY, behavior: "instant"});  // no further to the answers
    const box = field.getBoundingClientRect();
    if (box.top < 0 || box.bottom > window.innerHeight)
      field.scrollIntoView({behavior: "instant", block: "center"});
    field.querySelector("textarea, input, button")?.focus({preventScroll: true});
  };
  setTimeout(look, 100, 20);
}"""

# An uploaded file was checked: shows the note on it, unless another file has replaced it. A bad
# file is removed.
LOOKED = """(image, looked) =>
  image?.path === looked.path ? [looked.is_good ? undefined : null, looked.note] : undefined"""

_REFUSE = """
const field = element.closest(".field");
const look = (event, files) => {
  if (!files?.length) return;
  const {type, size} = files[0];
  const kind = !size || !type.startsWith("image/") ? "kind" : size > MOST ? "size" : "";
  if (!kind) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  props.value = SAID[kind] + (field.querySelector(".seen")?.outerHTML ?? "");  // it stays
};
field.addEventListener("change", (event) => look(event, event.target.files), true);
field.addEventListener("drop", (event) => {
  look(event, event.dataTransfer?.files);
  const leave = new DragEvent("dragleave", {bubbles: true});
  if (event.defaultPrevented) event.target.dispatchEvent(leave);
}, true);
"""


def refuse_files(upload_bytes: int) -> str:
    """Returns the script that reports, beside the picture, files that Gradio would not send.

    Args:
        upload_bytes: size of the largest file.
    """
    said = {
        "kind": problem(
            f"the file is no image, or empty: choose one of {', '.join(IMAGE_FORMATS)}"
        ),
        "size": problem(
            f"the file has more than {upload_bytes:,} bytes, the limit of this page: save it"
            " smaller"
        ),
    }
    return f"const MOST = {upload_bytes}, SAID = {json.dumps(said)};{_REFUSE}"
