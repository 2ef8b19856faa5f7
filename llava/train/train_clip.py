"""CLIP of the mini model: vision and text together, on drawn scenes.

The real model gets its CLIP ready-made. A contrast of whole images and captions alone teaches a
tower this small little but colours, so the patches learn too: linear heads (thrown away afterwards)
ask each patch what lies on it, and each patch of an object must find its object's phrase among all
phrases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from llava.mini.scene import COLORS, IMAGE_SIZE, PLACES, SHAPES, SIZES

# Of the mini model's tower; 12 x 12 patches.
PATCH_SIZE = 8
VISION = dict(
    hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
    image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, hidden_act="gelu",
)
TEXT = dict(hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, hidden_act="gelu")
PROJECTION = 64

NOTHING, UNCLEAR = 0, -100  # labels of a patch: background; partly covered, not asked
_ATTRIBUTES = {"color": COLORS, "shape": SHAPES, "size": SIZES, "place": PLACES}
_INSIDE, _OUTSIDE = 1.0, 5.0  # pixels beyond an object's radius: surely on it, surely off it


def mini_clip(vocab_size: int, seed: int) -> CLIPModel:
    """An untrained CLIP of the mini model's shape; its positions start as a 2-D sine table."""
    torch.manual_seed(seed)
    text = dict(TEXT, vocab_size=vocab_size, max_position_embeddings=77)
    text |= dict(bos_token_id=vocab_size - 2, eos_token_id=vocab_size - 1)
    clip = CLIPModel(CLIPConfig(vision_config=VISION, text_config=text, projection_dim=PROJECTION))
    positions = clip.vision_model.embeddings.position_embedding.weight
    with torch.no_grad():
        positions[1:] = 0.3 * sine_positions(IMAGE_SIZE // PATCH_SIZE, positions.shape[1])
    return clip


def sine_positions(side: int, width: int) -> Tensor:
    """(side * side, width): sines and cosines of rows and columns."""
    steps = torch.arange(side).float()
    rates = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = steps[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows = waves[:, None].expand(-1, side, -1)
    columns = waves[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def patch_labels(things: list[dict]) -> dict[str, Tensor]:
    """What lies on each patch of a scene.

    Args:
        things: its objects; "color", "shape", "size", "place", "x", "y", "radius".

    Returns:
        (N,) int64 for each attribute: NOTHING, UNCLEAR, or 1 + its number; "center": 1 for the
        patch in which an object's centre lies, else 0.
    """
    side = IMAGE_SIZE // PATCH_SIZE
    middles = (torch.arange(side) + 0.5) * PATCH_SIZE
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    center = torch.zeros(side * side, dtype=torch.long)
    best = torch.full((side * side,), torch.inf)
    owner = torch.zeros(side * side, dtype=torch.long)
    for number, thing in enumerate(things):
        beyond = torch.hypot(x - thing["x"], y - thing["y"]).flatten() - thing["radius"]
        owner = torch.where(beyond < best, number, owner)
        best = torch.minimum(best, beyond)
        center[int(thing["y"] // PATCH_SIZE) * side + int(thing["x"] // PATCH_SIZE)] = 1
    labels = {"center": center}
    for name, values in _ATTRIBUTES.items():
        of_things = torch.tensor([1 + values.index(thing[name]) for thing in things])
        label = torch.where(best < _INSIDE, of_things[owner], UNCLEAR)
        labels[name] = torch.where(best > _OUTSIDE, NOTHING, label)
    return labels


@dataclass(frozen=True)
class ClipBatch:
    """B images with what can be said of them.

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

    @property
    def weight(self) -> float:
        """Images."""
        return len(self.pixels)

    def to(self, device: torch.device) -> ClipBatch:
        labels = {name: label.to(device) for name, label in self.labels.items()}
        rest = (t.to(device) for t in (self.pixels, self.text_ids, self.phrase_ids))
        pixels, text_ids, phrase_ids = rest
        return ClipBatch(pixels, labels, text_ids, phrase_ids)


class ClipObjective(nn.Module):
    """CLIP with the heads that teach it.

    Args:
        clip: the model that is trained.
    """

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        sizes = {name: 1 + len(values) for name, values in _ATTRIBUTES.items()} | {"center": 2}
        width = clip.config.vision_config.hidden_size
        self.shallow = nn.ModuleDict({name: nn.Linear(width, n) for name, n in sizes.items()})
        self.deep = nn.ModuleDict({name: nn.Linear(PROJECTION, n) for name, n in sizes.items()})

    def forward(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Losses summed over images; "phrase_accuracy": patches of objects that find their phrase."""
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
        heads = self._ask(self.shallow, features, batch) + self._ask(self.deep, embeds[:, 1:], batch)
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
        """Mean cross-entropy of linear heads over patches, objects and background alike."""
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
