"""The sizes of a run's images: a run is not continued with other images of the same names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llava.errors import UserError, quoted
from llava.eval.benchmarks.question import Question

if TYPE_CHECKING:
    from llava.eval.run import Run


def check_images(run: Run, outcomes: Mapping[str, dict]) -> None:
    """Refuses to continue a run whose answers are about other images of the same names.

    Raises:
        UserError: an image has another size than when its question was answered.
    """
    for question in run.questions:
        before = outcomes.get(question.key, {}).get("asked", {}).get("image_bytes")
        now = image_bytes(question)
        if None not in (before, now) and before != now:
            raise UserError(
                f"{run.answers_file} was begun with other images: that of question "
                f"{quoted(question.key)} had {before} bytes and has {now}. Give the earlier folder,"
                f" or {run.elsewhere}"
            )


def image_bytes(question: Question) -> int | None:
    """Returns the size of a question's image in bytes; None if it no longer exists."""
    if isinstance(question.image, bytes):
        return len(question.image)
    try:
        return question.image.stat().st_size
    except (OSError, ValueError):
        return None
