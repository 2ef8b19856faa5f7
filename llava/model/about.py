"""What a checkpoint says of itself: the head of its model card (README.md), as the hub reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub.repocard import metadata_load

_LONGEST = 300  # characters of a line that is shown


@dataclass(frozen=True)
class About:
    """A model in words.

    Attributes:
        name: of its folder, or on the hub.
        knows: what it can be asked about, in a line (``accm_knows`` of the card); None where the
            card does not say.
        pictures: the only kind of pictures that it has seen (``accm_pictures``), "drawn scenes"
            or one that nothing here can tell; None where it is not said.
    """

    name: str = "the model"
    knows: str | None = None
    pictures: str | None = None

    @property
    def line(self) -> str | None:
        """Name and what it knows; None where the card does not say."""
        return self.knows and f"{self.name} knows {self.knows}"


def read_about(folder: Path, name: str) -> About:
    """Returns what the model card of a checkpoint says; one that cannot be read says nothing."""
    try:
        head = metadata_load(folder / "README.md") or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):  # a card is for people
        head = {}
    return About(name, _line(head.get("accm_knows")), _line(head.get("accm_pictures")))


def _line(value: object) -> str | None:
    """Returns a text that fits on a line, and None for anything else."""
    is_line = isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST
    return value if is_line else None
