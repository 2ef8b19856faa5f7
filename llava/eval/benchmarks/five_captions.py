"""Five captions of each of Flickr30k's 31,783 images, in Karpathy's file or in the publisher's.

Mistakes about an image that no question asks about are ignored.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llava.errors import UserError, quoted
from llava.eval.benchmarks.names import is_name
from llava.eval.benchmarks.question import Question, need_texts
from llava.files import read_json, read_text

CAPTIONS_PER_IMAGE = 5


@dataclass(frozen=True)
class References:
    """Captions of images.

    Attributes:
        path: the file that they come from.
        captions: the captions of each image, by its name.
        test: names of the images that are asked about by default.
        bad: one message for each place that was skipped.
    """

    path: Path
    captions: dict[str, list[str]]
    test: list[str]
    bad: list[str]

    def asked(self) -> list[str]:
        """Returns the names of the images that are asked about; warns if some are left out.

        Raises:
            UserError: there are none.
        """
        names = [name for name in self.test if self._has_five(name)]
        if not names:
            raise UserError(f"{self.path} has no image with five captions: {self._why(self.test)}")
        if self.bad or len(names) < len(self.test):
            warnings.warn(f"images are left out: {self._why(self.test)}", stacklevel=2)
        return names

    def of(self, questions: Sequence[Question]) -> list[list[str]]:
        """Returns the five captions of the image of each question.

        Raises:
            UserError: an image does not have five.
        """
        names = [question.image_name for question in questions]
        lacking = [name for name in names if not self._has_five(name)]
        if lacking:
            raise UserError(
                f"{len(lacking)} of {len(names)} images have not {CAPTIONS_PER_IMAGE} captions in "
                f"{self.path}: {self._why(lacking)}, or take it away to score by one caption"
            )
        return [self.captions[name] for name in names]

    def _has_five(self, name: str) -> bool:
        return len(self.captions.get(name, ())) == CAPTIONS_PER_IMAGE

    def _why(self, names: Sequence[str]) -> str:
        """Returns a message about images without captions: what is known, and the way out."""
        lacking = next((name for name in names if not self._has_five(name)), None)
        count = None if lacking is None else len(self.captions.get(lacking, ()))
        image = [] if lacking is None else [f"{quoted(lacking)} has {count}"]
        return "; ".join([*image, *(self.bad[:1] or ["mend the file, or get it again"])])


def read_karpathy(path: Path) -> References:
    """Reads Karpathy's dataset_flickr30k.json.

    Raises:
        UserError: the file has another format.
    """
    images = read_json(path).get("images")
    if not isinstance(images, list):
        raise UserError(f"{path} is not Karpathy's dataset: it has no list of images; get it again")
    captions: dict[str, list[str]] = defaultdict(list)
    test: dict[str, bool] = {}
    bad: list[str] = []
    for place, image in enumerate(images, start=1):
        try:
            name, split, texts = _image(image, f"image {place} of {path}")
        except UserError as error:
            bad.append(str(error))
            continue
        captions[name] += texts
        if split == "test":
            test[name] = True
    return References(path, dict(captions), list(test), bad)


def _image(image: object, where: str) -> tuple[str, str, list[str]]:
    image = need_texts(image, ("split",), where, ids=("filename",))
    sentences = image.get("sentences")
    if not isinstance(sentences, list):
        raise UserError(f"{where}: no list under sentences: mend it, or get it again")
    texts = [need_texts(sentence, ("raw",), where)["raw"] for sentence in sentences]
    return image["filename"], image["split"], texts


def read_token_file(path: Path) -> References:
    """Reads results_20130124.token: an image, #, a number, a tab and a caption on each line.

    Raises:
        UserError: the file is not UTF-8.
    """
    captions, bad = defaultdict(list), []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        name, tab, caption = line.partition("\t")
        image, mark, _ = name.rpartition("#")
        if tab and mark and is_name(image):
            captions[image].append(caption)
        elif line.strip():
            bad.append(
                f"line {number} of {path} is not '<name>.jpg#<number> TAB <caption>': mend it, or "
                "get it again"
            )
    return References(path, dict(captions), list(captions), bad)
