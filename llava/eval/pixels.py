"""Reading and preprocessing of images, in threads beside the model."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cachetools import LRUCache
from torch import Tensor

from llava.mm_utils import load_image
from llava.model.llava_arch import LlavaAccm

READERS = min(8, max(2, (os.cpu_count() or 2) // 2))  # threads
IMAGES_KEPT = 64  # the last ones read, for later questions: 1.4 MB each at 336 pixels


class PixelReader:
    """A reader and preprocessor of images that remembers the last ones.

    Args:
        model: defines the preprocessing.
    """

    def __init__(self, model: LlavaAccm) -> None:
        self._model = model
        self._threads = ThreadPoolExecutor(READERS)
        self._last: LRUCache = LRUCache(IMAGES_KEPT)

    def __enter__(self) -> PixelReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def start(self, image: Path | bytes) -> Future[Tensor]:
        """Starts to read an image, a file or its bytes.

        Returns:
            A future with the pixels (1, 3, S, S) float32, or with a UserError.
        """
        if image not in self._last:
            self._last[image] = self._threads.submit(self._read, image)
        return self._last[image]

    def _read(self, image: Path | bytes) -> Tensor:
        return self._model.preprocess([load_image(image)])
