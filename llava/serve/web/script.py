"""What the page does in the browser alone, as JavaScript."""

from __future__ import annotations

import json

from llava.mm_utils import IMAGE_FORMATS
from llava.serve.web.panels import problem

# For those who hear the page: the answers have a name, and the pictures of examples say no more
# than the questions beside them.
LOAD = """() => {
  const answers = document.querySelector(".answers");
  Object.assign(answers, {tabIndex: -1, role: "region", ariaLabel: "Answers"});
  document.querySelectorAll("button.example img").forEach((image) => { image.alt = ""; });
}"""

# A question begins: the button says so, and on a small screen the answers come into view. It
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

# It has been answered.
ANSWERED = """() => {
  document.querySelector("button.ask").removeAttribute("aria-busy");
}"""

# It has not: answers that the server has not taken away are of an older question, and a field with
# something wrong comes into view.
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

# An uploaded file has been looked at: what is said of it, unless another one is there by now. A bad
# one is taken away.
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
  if (event.defaultPrevented) event.target.dispatchEvent(new DragEvent("dragleave", {bubbles: true}));
}, true);
"""


def refuse_files(upload_bytes: int) -> str:
    """Returns what tells, in the note beside the picture, of files that Gradio would not send.

    Args:
        upload_bytes: of the largest.
    """
    said = {
        "kind": problem(
            f"the file is no image, or empty: choose one of {', '.join(IMAGE_FORMATS)}"
        ),
        "size": problem(
            f"the file has more than {upload_bytes:,} bytes, the limit of this page: save it smaller"
        ),
    }
    return f"const MOST = {upload_bytes}, SAID = {json.dumps(said)};{_REFUSE}"
