"""CLIP of the mini model: vision and text together, on drawn scenes.

The real model gets its CLIP ready-made. A contrast of whole images and captions alone teaches a
tower this small little but colours, so the patches learn too: linear heads (discarded afterwards)
predict what is on each patch, and each patch of an object must find its object's phrase among all
phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

from llava.files import read_json
from llava.mini.scene import COLORS, IMAGE_SIZE, PLACES, SHAPES, SIZES, Thing
from llava.mini.stages.arguments import ClipArguments
from llava.mini.training_set import TrainingSet, read_training_set
from llava.mm_utils import load_image, process_images
from llava.model.multimodal_encoder.builder import load_processor
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.train.batches import TensorBatch
from llava.train.closing import command_line, finish
from llava.train.provenance import hashes_of
from llava.train.pruning import draw
from llava.train.stage import check_given, open_stage
from llava.train.trainer import train

POSITION_SCALE = 0.3  # of the sines that the position table starts with
NOTHING, UNCLEAR = 0, -100  # labels of a patch: background; partly covered, not asked
_ATTRIBUTES = {"color": COLORS, "shape": SHAPES, "size": SIZES, "place": PLACES}
_INSIDE, _OUTSIDE = 1.0, 5.0  # pixels beyond an object's radius: surely on it, surely off it


def new_clip(folder: Path, seed: int) -> CLIPModel:
    """Returns an untrained CLIP of a folder's shape; its positions start as 2-D sines."""
    torch.manual_seed(seed)
    clip = CLIPModel(CLIPConfig(**read_json(folder / "config.json")))
    vision = clip.config.vision_config
    positions = clip.vision_model.embeddings.position_embedding.weight
    with torch.no_grad():
        table = sine_positions(vision.image_size // vision.patch_size, positions.shape[1])
        positions[1:] = POSITION_SCALE * table
    return clip


def sine_positions(side: int, width: int) -> Tensor:
    """Returns sines and cosines of rows and columns, (side * side, width)."""
    steps = torch.arange(side).float()
    rates = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = steps[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows = waves[:, None].expand(-1, side, -1)
    columns = waves[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def patch_labels(things: Sequence[Thing], patch_size: int) -> dict[str, Tensor]:
    """Labels each patch of a scene with what is on it.

    Args:
        things: its objects.
        patch_size: side of a patch, pixels.

    Returns:
        (N,) int64 for each attribute: NOTHING, UNCLEAR, or 1 + its number; "center": 1 for the
        patch in which an object's centre lies, else 0.
    """
    side = IMAGE_SIZE // patch_size
    middles = (torch.arange(side) + 0.5) * patch_size
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    center = torch.zeros(side * side, dtype=torch.long)
    best = torch.full((side * side,), torch.inf)
    owner = torch.zeros(side * side, dtype=torch.long)
    for number, thing in enumerate(things):
        beyond = torch.hypot(x - thing.x, y - thing.y).flatten() - thing.radius
        owner = torch.where(beyond < best, number, owner)
        best = torch.minimum(best, beyond)
        center[int(thing.y // patch_size) * side + int(thing.x // patch_size)] = 1
    labels = {"center": center}
    for name, values in _ATTRIBUTES.items():
        of_things = torch.tensor([1 + values.index(getattr(thing, name)) for thing in things])
        label = torch.where(best < _INSIDE, of_things[owner], UNCLEAR)
        labels[name] = torch.where(best > _OUTSIDE, NOTHING, label)
    return labels


@dataclass(frozen=True)
class ClipBatch(TensorBatch):
    """B images with their labels and texts.

    Attributes:
        pixels: (B, 3, S, S) float32, preprocessed.
        labels: attribute -> (B, N) int64; see patch_labels.
        text_ids: (B, L) int64, a text for each image, padded with the end-of-text id.
        phrase_ids: (48, L') int64, "a red circle" and so on, colours slowest.
    """

    pixels: Tensor
    labels: dict[str, Tensor]
    text_ids: Tensor
    phrase_ids: Tensor


class ClipObjective(nn.Module):
    """The objective of the stage: CLIP with the linear heads that teach it.

    Args:
        clip: the model that is trained.
    """

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        sizes = {name: 1 + len(values) for name, values in _ATTRIBUTES.items()} | {"center": 2}
        width = clip.config.vision_config.hidden_size
        self.shallow = nn.ModuleDict({name: nn.Linear(width, n) for name, n in sizes.items()})
        shared = clip.config.projection_dim
        self.deep = nn.ModuleDict({name: nn.Linear(shared, n) for name, n in sizes.items()})

    def forward(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Sums losses over images; "phrase_accuracy": object patches that find their phrase."""
        clip, vision = self.clip, self.clip.vision_model
        out = vision(batch.pixels, output_hidden_states=True)
        last = vision.post_layernorm(out.last_hidden_state)
        embeds = clip.visual_projection(last)  # (B, 1 + N, P)
        features = out.hidden_states[-2][:, 1:]
        images = F.normalize(embeds[:, 0], dim=-1)
        scale = clip.logit_scale.exp().clamp(max=100)
        logits = scale * images @ self._embed_text(batch.text_ids).T
        target = torch.arange(len(logits), device=logits.device)
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        heads = self._ask(self.shallow, features, batch) + self._ask(
            self.deep, embeds[:, 1:], batch
        )
        phrase, accuracy = self._find_phrases(embeds[:, 1:], batch)
        count = len(logits)
        return {
            "loss": (contrast + heads + phrase) * count,
            "contrast": contrast.detach() * count,
            "heads": heads.detach() * count,
            "phrase_accuracy": accuracy * count,
        }

    def _embed_text(self, ids: Tensor) -> Tensor:
        pooled = self.clip.text_model(ids).pooler_output
        return F.normalize(self.clip.text_projection(pooled), dim=-1)

    def _ask(self, heads: nn.ModuleDict, x: Tensor, batch: ClipBatch) -> Tensor:
        """Sums the heads' mean cross-entropies, objects weighing 0.7 and background 0.3."""
        total = x.new_zeros(())
        for name, head in heads.items():
            label = batch.labels[name]
            each = F.cross_entropy(head(x).flatten(0, 1).float(), label.flatten(), reduction="none")
            on = (label > 0).flatten()
            off = (label == 0).flatten()
            total = total + 0.7 * each[on].mean() + 0.3 * each[off].mean()
        return total

    def _find_phrases(self, patches: Tensor, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        color, shape = batch.labels["color"].flatten(), batch.labels["shape"].flatten()
        on = color > 0
        target = (color[on] - 1) * len(SHAPES) + shape[on] - 1
        phrases = self._embed_text(batch.phrase_ids)
        scale = self.clip.logit_scale.exp().clamp(max=100)
        logits = scale * F.normalize(patches.flatten(0, 1)[on], dim=-1) @ phrases.T
        return F.cross_entropy(logits.float(), target), (logits.argmax(-1) == target).float().mean()


@dataclass(eq=False)
class ClipData:
    """Images with one caption each, and labels for each patch.

    Attributes:
        texts: the training set.
        args: the folders of its images and of CLIP, and how many images there are at most.
        vision: the sizes of images and patches.
    """

    texts: TrainingSet
    args: ClipArguments
    vision: CLIPVisionConfig

    def __post_init__(self) -> None:
        folder = Path(self.args.vision_tower)
        self._tokenizer = ClipTokenizer(folder)
        self._processor = load_processor(folder, self.vision.image_size)
        self._pixels: dict[int, Tensor] = {}
        self._phrase_ids = self._pad([f"a {color} {shape}" for color in COLORS for shape in SHAPES])

    def __len__(self) -> int:
        return min(self.args.images, len(self.texts.images))

    def collate(self, indices: list[int], generator: torch.Generator) -> ClipBatch:
        """Returns a batch of images."""
        labels = [patch_labels(self.texts.scenes[i], self.vision.patch_size) for i in indices]
        captions = [draw(self.texts.captions[i], generator) for i in indices]
        return ClipBatch(
            pixels=torch.stack([self._image(i) for i in indices]).float(),
            labels={name: torch.stack([label[name] for label in labels]) for name in labels[0]},
            text_ids=self._pad(captions),
            phrase_ids=self._phrase_ids,
        )

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's images."""
        return ", ".join(self.texts.images[i] for i in indices)

    def _image(self, index: int) -> Tensor:
        """Returns pixels (3, S, S) of an image, read once and kept in half precision."""
        if index not in self._pixels:
            image = load_image(Path(self.args.data) / "images" / self.texts.images[index])
            self._pixels[index] = process_images([image], self._processor, "pad")[0].half()
        return self._pixels[index]

    def _pad(self, texts: Sequence[str]) -> Tensor:
        ids = [self._tokenizer.encode(text, 77) for text in texts]
        length = max(map(len, ids))
        return torch.tensor([row + [row[-1]] * (length - len(row)) for row in ids])


def train_clip(args: ClipArguments) -> int:
    """Runs the stage."""
    check_given(args, "vision_tower", "data", "output_dir")
    with open_stage("train_clip", args) as stage:
        folder, data_folder = Path(args.vision_tower), Path(args.data)
        texts = read_training_set(data_folder)
        clip = new_clip(folder, args.seed)
        data = ClipData(texts, args, clip.config.vision_config)
        inputs = {"data": data_folder / "texts.jsonl", "config": folder / "config.json"}
        chosen = {"images": args.images, "inputs": {k: hashes_of(p) for k, p in inputs.items()}}
        train(stage, ClipObjective(clip), data, chosen)
        use = command_line("llava.train.train_projector", vision_tower=folder)
        weights = {folder / "model.safetensors": clip.state_dict()}
        return finish(stage, chosen, inputs, use, weights)
