"""What the frozen tower says of every training image, computed once and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPImageProcessorPil

from llava.errors import UserError
from llava.files import read_json, write_json
from llava.mm_utils import load_image, process_images
from llava.model.multimodal_encoder.clip_encoder import ClipTower, EncodedImage

_MARK = "features.json"  # written last: without it the arrays are not complete
_READERS = 4
_ARRAYS = {"features": np.float16, "patch_embeds": np.float16, "cls_attention": np.float32}


@dataclass(frozen=True)
class ImageFeatures:
    """The tower's outputs for M images of N patches, on disk among those of others.

    Attributes:
        rows: where each of the images stands in the arrays.
        features: (at least M, N, C) float16.
        patch_embeds: (at least M, N, P) float16.
        cls_attention: (at least M, N) float32.
    """

    rows: list[int]
    features: np.ndarray
    patch_embeds: np.ndarray
    cls_attention: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def embed_dim(self) -> int:
        """P."""
        return self.patch_embeds.shape[2]

    def image(self, number: int) -> EncodedImage:
        """One image as the tower gives it, in float32."""
        row = self.rows[number]
        return EncodedImage(
            features=torch.from_numpy(self.features[row].astype(np.float32)),
            patch_embeds=torch.from_numpy(self.patch_embeds[row].astype(np.float32)),
            cls_attention=torch.from_numpy(self.cls_attention[row].copy()),
        )


def image_features(
    folder: Path,
    images: Sequence[Path],
    tower: ClipTower,
    processor: CLIPImageProcessorPil,
    identity: dict,
    batch_size: int = 64,
) -> ImageFeatures:
    """Opens the features of images, computing them first where the folder has none.

    Stages may share a folder: what the first has computed serves all that look at the same images,
    or at some of them.

    Args:
        folder: of the cache; a half-made one is made again.
        images: files, all different.
        tower: on its device.
        processor: images to pixels.
        identity: what the features depend on besides the images' names (hashes of the tower).
        batch_size: images at once.

    Raises:
        UserError: an image cannot be read, the disk is full, or the cache is of other images or of
            another tower.
    """
    names = [str(image) for image in images]
    if not (folder / _MARK).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _compute(folder, images, tower, processor, batch_size)
            write_json(folder / _MARK, {"identity": identity, "images": names})
        except OSError as error:
            raise UserError(
                f"cannot write features to {folder} ({error.strerror}): make room, and start again"
            ) from error
    made = read_json(folder / _MARK)
    places = {name: row for row, name in enumerate(made["images"])}
    missing = [name for name in names if name not in places]
    if missing or made["identity"] != json.loads(json.dumps(identity)):
        what = f"other images (no {missing[0]})" if missing else "another tower"
        raise UserError(
            f"the features in {folder} are of {what}: name another folder with --features, or "
            "delete it"
        )
    arrays = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
    return ImageFeatures([places[name] for name in names], *arrays)


@torch.inference_mode()
def _compute(
    folder: Path,
    images: Sequence[Path],
    tower: ClipTower,
    processor: CLIPImageProcessorPil,
    batch_size: int,
) -> None:
    arrays: dict[str, np.ndarray] = {}
    starts = range(0, len(images), batch_size)
    with ThreadPoolExecutor(_READERS) as readers:
        for start in tqdm(starts, "tower", unit="batch"):
            loaded = list(readers.map(load_image, images[start : start + batch_size]))
            encoded = tower(process_images(loaded, processor, "pad"))
            for name, dtype in _ARRAYS.items():
                values = torch.stack([getattr(image, name) for image in encoded]).float().cpu()
                if name not in arrays:
                    arrays[name] = np.lib.format.open_memmap(
                        folder / f"{name}.npy",
                        mode="w+",
                        dtype=dtype,
                        shape=(len(images), *values.shape[1:]),
                    )
                arrays[name][start : start + len(values)] = values.numpy()
    for array in arrays.values():
        array.flush()


def encode_questions(
    tower: ClipTower, tokenizer, questions: Sequence[str], batch_size: int = 256
) -> dict[str, Tensor]:
    """The text tower's embedding of every different question, (P,) float32 on the CPU."""
    different = list(dict.fromkeys(questions))
    found: dict[str, Tensor] = {}
    for start in range(0, len(different), batch_size):
        texts = different[start : start + batch_size]
        ids = [tokenizer.encode(text, tower.max_text_length) for text in texts]
        with torch.inference_mode():
            found.update(zip(texts, tower.embed_text(ids).cpu()))
    return found
