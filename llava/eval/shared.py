"""What the runs of one process share: the model, checkpoints' fingerprints, encoded images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from llava.model.builder import ModelArguments, load_from_arguments
from llava.model.fingerprint import fingerprint
from llava.model.llava_arch import LlavaAccm
from llava.model.multimodal_encoder.clip_encoder import EncodedImage

# Images of the benchmark at hand that are kept encoded: all of a small model's, and of LLaVA-1.5's
# about 250 in float32.
IMAGE_MEMORY = 1 << 30  # bytes

Images = Mapping[Path | bytes, EncodedImage]


class ImageMemory:
    """The encoded images of units of work that are met again.

    What comes first stays, and what has no room any more is encoded each time: units come round in
    the same order, so that dropping the oldest would drop each just before it is needed. Whole
    units are kept, never a part of one: an image is always encoded in the same company.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = IMAGE_MEMORY) -> None:
        self._room = limit
        self._units: dict[tuple[Path | bytes, ...], Images] = {}

    def find(self, names: tuple[Path | bytes, ...]) -> Images | None:
        """The images of a unit; None where they are not here."""
        return self._units.get(names)

    def keep(self, names: tuple[Path | bytes, ...], images: Images) -> None:
        """Keeps the images of a unit where there is room, and where none of them is missing."""
        size = sum(image.nbytes for image in images.values())
        if len(images) == len(names) and size <= self._room:
            self._room -= size
            self._units[names] = images


class Shared:
    """What several runs with the same model hand on to each other; each thing is made when needed.

    Attributes:
        images: of the benchmark that is being answered. At first it keeps none; who asks a
            benchmark several times puts one with room in its place.

    Args:
        compensation: whether any of the runs gives captions back: then all parts are loaded.
    """

    def __init__(self, compensation: bool) -> None:
        self.images = ImageMemory(limit=0)
        self._compensation = compensation
        self._model: LlavaAccm | None = None
        self._fingerprints: dict[Path, str] = {}

    def load(self, args: ModelArguments) -> LlavaAccm:
        """The model; a run without captions gets it without what writes them.

        Args:
            args: the same for all runs, but for ``compensation``.

        Raises:
            UserError: as load_from_arguments.
        """
        if self._model is None:
            self._model = load_from_arguments(
                dataclasses.replace(args, compensation=self._compensation)
            )
        return self._model if args.compensation else self._model.without_captions()

    def fingerprint(self, path: Path) -> str:
        """The fingerprint of a checkpoint, computed once.

        Raises:
            UserError: it cannot be read.
        """
        if path not in self._fingerprints:
            self._fingerprints[path] = fingerprint(path)
        return self._fingerprints[path]
