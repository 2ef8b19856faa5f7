"""What the frozen tower says of every training image, computed once and kept on disk."""

from __future__ import annotations

import hashlib
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
from llava.files import differing, read_json, write_json
from llava.mm_utils import load_image, process_images
from llava.model.multimodal_encoder.clip_encoder import ClipTower, EncodedImage

_MARK = "features.json"  # written last: without it the arrays are not complete
_READERS = 4


@dataclass(frozen=True)
class ImageFeatures:
    """The tower's outputs for M images of N patches, on disk.

    Attributes:
        features: (M, N, C) float16.
        patch_embeds: (M, N, P) float16.
        cls_attention: (M, N) float32.
    """

    features: np.ndarray
    patch_embeds: np.ndarray
    cls_attention: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def image(self, number: int) -> EncodedImage:
        """One image as the tower gives it, in float32."""
        return EncodedImage(
            *(
                torch.from_numpy(array[number].astype(np.float32))  # a copy: the file is read-only
                for array in (self.features, self.patch_embeds, self.cls_attention)
            )
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

    Args:
        folder: of the cache; half-made ones are made again.
        images: files, all different.
        tower: on its device.
        processor: images to pixels.
        identity: what the features depend on besides the images' names (hashes of tower and data).
        batch_size: images at once.

    Raises:
        UserError: an image cannot be read, the disk is full, or the cache is of other images or of
            another tower.
    """
    wanted = identity | {"images": len(images), "first": images[0].name, "last": images[-1].name}
    wanted |= {"files": _list_hash(images), "select_layer": tower.select_layer}
    wanted |= {"patch_post_layernorm": tower.patch_post_layernorm}
    wanted = json.loads(json.dumps(wanted))
    if (folder / _MARK).is_file():
        if changed := differing(read_json(folder / _MARK), wanted):
            raise UserError(
                f"the features in {folder} are of other images or of another tower "
                f"({', '.join(changed)}): name another folder, or delete it"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _compute(folder, images, tower, processor, batch_size)
            write_json(folder / _MARK, wanted)
        except OSError as error:
            raise UserError(
                f"cannot write features to {folder} ({error.strerror}): make room, and start again"
            ) from error
    return ImageFeatures(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS))


def _list_hash(images: Sequence[Path]) -> str:
    """Tells lists of images apart by names and sizes, without reading a hundred thousand files."""
    try:
        lines = [f"{image.name} {image.stat().st_size}\n" for image in images]
    except OSError as error:
        raise UserError(
            f"cannot read the image {error.filename} ({error.strerror}): check the folder of the "
            "images"
        ) from error
    return hashlib.sha256("".join(lines).encode()).hexdigest()


_ARRAYS = {"features": np.float16, "patch_embeds": np.float16, "cls_attention": np.float32}


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
