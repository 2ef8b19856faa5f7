"""Reads the head of a checkpoint's model card (README.md), in the hub's format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llava.errors import UserError
from llava.files import read_text

_LONGEST = 300  # characters of a line that is shown
_HEAD = re.compile(r"---\n(.*?)^---$", re.DOTALL | re.MULTILINE)
_OWN = re.compile(r"^(accm_\w+): (.+)$", re.MULTILINE)  # a text in YAML's plainest form


@dataclass(frozen=True)
class About:
    """The description of a model by its model card.

    Attributes:
        name: the name of its folder, or its name on the hub.
        knows: what it can be asked about, in one line (``accm_knows`` of the card); None where the
            card does not say.
        pictures: the only kind of pictures that it has seen (``accm_pictures``), "drawn scenes"
            or one that this code cannot recognise; None where it is not said.
        scene_scale: how many times larger than usual scenes those are, in pixels of a side
            (``accm_scene_scale``); 1 where it is not said.
        conversations: "no" (``accm_conversations``) where it has learnt from single questions only,
            so that a chat asks each of them by itself; None where it is not said.
    """

    name: str = "the model"
    knows: str | None = None
    pictures: str | None = None
    scene_scale: int = 1
    conversations: str | None = None

    @property
    def line(self) -> str | None:
        """The name and what it knows; None where the card does not say."""
        return self.knows and f"{self.name} knows {self.knows}"


def read_about(folder: Path, name: str) -> About:
    """Returns what the model card of a checkpoint says; a card that cannot be read says nothing."""
    try:
        head = _HEAD.match(read_text(folder / "README.md"))
    except UserError:  # a card is optional
        head = None
    said = dict(_OWN.findall(head[1])) if head else {}
    scale = said.get("accm_scene_scale", "1").strip()
    return About(
        name,
        _line(said.get("accm_knows", "")),
        _line(said.get("accm_pictures", "")),
        int(scale) if re.fullmatch("[1-9]", scale) else 1,
        _line(said.get("accm_conversations", "")),
    )


def _line(text: str) -> str | None:
    """Returns a text if it can be shown on one line, else None."""
    text = text.strip().strip("'\"")
    return text if text.isprintable() and 0 < len(text) <= _LONGEST else None
