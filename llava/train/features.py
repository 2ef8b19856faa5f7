"""The frozen tower's outputs for every training image, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from llava.errors import UserError
from llava.files import read_json, system_errors, take_lock, write_json
from llava.mm_utils import load_image
from llava.model.backbones.tiles import TiledTokens, TileLayout
from llava.model.multimodal_encoder.builder import Vision
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.visual_tokens import VisualTokens
from llava.train.provenance import hashes_of
from llava.train.settings import changes

_MARK = "features.json"  # written last: without it the arrays are not complete
_READERS = 4
_ARRAYS = {"features": np.float16, "patch_embeds": np.float16, "cls_attention": np.float32}


@dataclass(frozen=True)
class ImageFeatures:
    """The tower's outputs for M images of N patches, on disk among those of others.

    Attributes:
        rows: the index of each image in the arrays.
        features: (at least M, N, C) float16.
        patch_embeds: (at least M, N, P) float16.
        cls_attention: (at least M, N) float32.
        layout: the views of every image; None where an image has one.
        describes_all: whether texts are of all views; see TiledTokens.
    """

    rows: list[int]
    features: np.ndarray
    patch_embeds: np.ndarray
    cls_attention: np.ndarray
    layout: TileLayout | None = None
    describes_all: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_tokens(self) -> int:
        """The number N of tokens of every image."""
        return self.features.shape[1]

    @property
    def embed_dim(self) -> int:
        """The width P of the patch embeddings."""
        return self.patch_embeds.shape[2]

    def image(self, number: int) -> VisualTokens:
        """Returns one image as the tower outputs it, in float32."""
        row = self.rows[number]
        values = dict(
            features=torch.from_numpy(self.features[row].astype(np.float32)),
            patch_embeds=torch.from_numpy(self.patch_embeds[row].astype(np.float32)),
            cls_attention=torch.from_numpy(self.cls_attention[row].copy()),
        )
        if self.layout is None:
            return VisualTokens(**values)
        views, is_all = self.layout.views, self.describes_all
        return TiledTokens(**values, grids=views, layout=self.layout, describes_all=is_all)


def image_features(
    folder: Path,
    images: Sequence[Path],
    seen: Vision,
    batch_size: int = 64,
) -> ImageFeatures:
    """Opens the features of images, computing them first where the folder has none.

    Stages may share a folder: the features that the first has computed serve all that use the same
    images, or some of them.

    Args:
        folder: of the cache; an incomplete one is computed again.
        images: files, all different.
        seen: the tower and its image processor.
        batch_size: images per batch.

    Raises:
        UserError: an image cannot be read, the disk is full, another run is computing there, or the
            cache is of other images or of another tower.
    """
    identity = {"vision_tower": hashes_of(seen.folder)} | vision_settings(seen)
    sizes = {str(image): image.stat().st_size for image in images}
    if not (folder / _MARK).is_file():
        with _alone_in(folder):
            if not (folder / _MARK).is_file():  # nor made while waiting
                layout = _compute(folder, images, seen, batch_size)
                views = {} if layout is None else {"layout": asdict(layout)}
                write_json(folder / _MARK, {"identity": identity, "images": sizes} | views)
    made = read_json(folder / _MARK)
    if what := _difference(made, identity, sizes):
        raise UserError(
            f"the features in {folder} {what}: name another folder with --features, or delete it"
        )
    places = {name: row for row, name in enumerate(made["images"])}
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    layout = TileLayout(**made["layout"]) if "layout" in made else None
    rows = [places[name] for name in sizes]
    return ImageFeatures(rows, **arrays, layout=layout, describes_all=seen.describes_all)


def vision_settings(seen: Vision) -> dict:
    """Returns what the tower's outputs depend on besides its folder, as JSON.

    It is for a stage's settings, and for the cache.
    """
    weights = _weights_hash(seen.tower.clip.vision_model)  # LLaVA may have its own
    return {"vision_weights": weights} | seen.settings


def _weights_hash(module: nn.Module) -> str:
    """Returns the SHA-256 of a module's names and weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _difference(made: dict, identity: dict, sizes: dict[str, int]) -> str:
    """Describes how a cache differs from the wanted one, to end a sentence; "" if it does not."""
    before, images = made["identity"], made["images"]
    if not isinstance(images, dict) or before.keys() != identity.keys():
        return "are older than the record of all that they depend on"
    for name, size in sizes.items():
        if name not in images:
            return f"are of other images (no {name})"
        if images[name] != size:
            return f"are of other images ({name} has changed)"
    changed = changes(before, json.loads(json.dumps(identity)), {})
    return f"were made otherwise ({'; '.join(changed)})" if changed else ""


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Creates a folder and locks it for this run for a while.

    Raises:
        UserError: another run is using it, or the disk is full.
    """
    with system_errors(f"write features to {folder}", "make room, and start again"):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("ab") as lock:
            if not take_lock(lock):
                raise UserError(
                    f"another process is computing the features in {folder}: wait for it, or name "
                    "another folder with --features; machines of one run need a disk that they"
                    " share"
                )
            yield


@torch.inference_mode()
def _compute(
    folder: Path,
    images: Sequence[Path],
    seen: Vision,
    batch_size: int,
) -> TileLayout | None:
    """Writes the arrays; returns the views of the images, None where they have one."""
    arrays: dict[str, np.memmap] = {}
    layouts: dict[TileLayout | None, None] = {}
    starts = range(0, len(images), batch_size)
    with ThreadPoolExecutor(_READERS) as readers:
        for start in tqdm(starts, "tower", unit="batch"):
            loaded = list(readers.map(load_image, images[start : start + batch_size]))
            encoded = seen.encode(loaded)
            layouts |= {tile_layout(image): None for image in encoded}
            if len(layouts) > 1:
                raise UserError(
                    f"the images that are trained on have different sizes ({images[0]} and one of "
                    f"{images[start]} and after it), and a model with tiles then has different "
                    "numbers of tokens of each: bring them to one size"
                )
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
    return next(iter(layouts), None)


def tile_layout(image: VisualTokens) -> TileLayout | None:
    """Returns the views of an image; None where it has one."""
    return image.layout if isinstance(image, TiledTokens) else None


def encode_questions(
    tower: ClipTower,
    tokenizer,
    questions: Sequence[str],
    batch_size: int = 256,
    is_unit: bool = True,
) -> dict[str, Tensor]:
    """Returns the text tower's embedding of every different question, (P,) float32 on the CPU.

    Args:
        tower, tokenizer: CLIP's.
        questions: any number of texts.
        batch_size: texts per pass.
        is_unit: whether the embeddings are brought to unit length.
    """
    embed = tower.embed_text if is_unit else tower.project_text
    different = list(dict.fromkeys(questions))
    found: dict[str, Tensor] = {}
    for start in range(0, len(different), batch_size):
        texts = different[start : start + batch_size]
        ids = [tokenizer.encode(text, tower.max_text_length) for text in texts]
        with torch.inference_mode():
            found.update(zip(texts, embed(ids).cpu()))
    return found
