"""The relation model of the scene graph: from patches and a question to triplets of objects.

RelTR (Cong, Yang, Rosenhahn, arXiv 2201.11460) on the patch embeddings of CLIP: encoder layers let
the patches read each other and the question, decoder layers turn entity queries and triplet queries
into objects and into "subject predicate object". Modules have the names of the keys of the weight
file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llava.model.compensation.relation_layers import (
    BRANCHES,
    DecoderLayer,
    DecoderState,
    EncoderLayer,
    Mlp,
    grid_positions,
)

MASK_SIDE = 28  # attention maps of any grid are scaled to this size
MASK_FEATURES = 128


@dataclass(frozen=True)
class RelationSizes:
    """The sizes of a relation model.

    Attributes:
        embed_dim: P, the projection width of CLIP.
        width: d, of the model.
        feedforward: width inside the feed-forward layers.
        encoder_layers, decoder_layers: the numbers of layers.
        num_entities: Ne, entity queries.
        num_triplets: Nt, triplet queries.
        num_classes: objects, with the placeholder and "no object".
        num_predicates: predicates, with the placeholder and "no relation".
    """

    embed_dim: int
    width: int
    feedforward: int
    encoder_layers: int
    decoder_layers: int
    num_entities: int
    num_triplets: int
    num_classes: int
    num_predicates: int


class Relations(NamedTuple):
    """The outputs of the heads for B images with N patches each.

    Attributes:
        rel_logits: (B, Nt, predicates).
        sub_logits, obj_logits: (B, Nt, classes), of subjects and objects.
        sub_boxes, obj_boxes: (B, Nt, 4), centre x, centre y, width, height, from 0 to 1.
        sub_maps, obj_maps: (B, Nt, N), the attention of the last layer's subjects and objects to
            the patches, averaged over heads.
        entity_logits: (B, Ne, classes).
        entity_boxes: (B, Ne, 4).
    """

    rel_logits: Tensor
    sub_logits: Tensor
    obj_logits: Tensor
    sub_boxes: Tensor
    obj_boxes: Tensor
    sub_maps: Tensor
    obj_maps: Tensor
    entity_logits: Tensor
    entity_boxes: Tensor


class RelationModel(nn.Module):
    """RelTR over the patches of an image and the question about it.

    It computes in float32, and reads any square grid of patches: positions are computed, and maps
    are scaled. In eval mode a sample's results do not depend on the others of its batch.

    Attributes:
        embed_dim: P, the width of its inputs.
    """

    def __init__(self, sizes: RelationSizes) -> None:
        super().__init__()
        self.embed_dim = sizes.embed_dim
        width, feedforward = sizes.width, sizes.feedforward
        self.input_proj = nn.Conv2d(sizes.embed_dim, width, 1)
        encoder = [EncoderLayer(width, feedforward) for _ in range(sizes.encoder_layers)]
        decoder = [DecoderLayer(width, feedforward) for _ in range(sizes.decoder_layers)]
        self.transformer = nn.ModuleDict(
            {
                "encoder": nn.ModuleDict({"layers": nn.ModuleList(encoder)}),
                "decoder": nn.ModuleDict({"layers": nn.ModuleList(decoder)}),
            }
        )
        self.entity_embed = nn.Embedding(sizes.num_entities, 2 * width)
        self.triplet_embed = nn.Embedding(sizes.num_triplets, 3 * width)
        self.so_embed = nn.Embedding(2, width)
        for branch in BRANCHES:
            self.add_module(f"{branch}_class_embed", nn.Linear(width, sizes.num_classes))
            self.add_module(f"{branch}_bbox_embed", Mlp(width, width, width, 4))
        self.so_mask_conv = nn.Sequential(
            nn.Upsample(size=(MASK_SIDE, MASK_SIDE), mode="nearest"),
            *(nn.Conv2d(2, 64, 3, stride=2, padding=3), nn.ReLU(), nn.BatchNorm2d(64)),
            nn.MaxPool2d(3, stride=2, padding=1),
            *(nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(32)),
        )
        self.so_mask_fc = nn.Sequential(
            nn.Linear(32 * 8 * 8, 512), nn.ReLU(), nn.Linear(512, MASK_FEATURES)
        )
        self.rel_class_embed = Mlp(2 * width + MASK_FEATURES, width, sizes.num_predicates)

    def forward(self, patches: Tensor, question: Tensor) -> Relations:
        """Returns the outputs of the heads after the last layer; see decode."""
        return self.read(self.decode(patches, question)[-1])

    def decode(self, patches: Tensor, question: Tensor) -> list[DecoderState]:
        """Returns the state after each decoder layer.

        Args:
            patches: (B, N, P), all patches of each image, row by row, not normalised.
            question: (B, P), the question's embedding, not normalised.

        Raises:
            UserError: the N patches are not a square grid.
        """
        patches, question = self._project(patches), self._project(question[:, None])
        positions = grid_positions(patches.shape[1], patches.shape[2], patches.device)
        for layer in self.transformer["encoder"]["layers"]:
            patches = layer(patches, positions, question)
        width, count = patches.shape[2], len(patches)
        entity_places, entities = self.entity_embed.weight.split(width, dim=-1)
        triplet_places, subjects, objects = self.triplet_embed.weight.split(width, dim=-1)
        places = (entity_places, triplet_places, self.so_embed.weight)
        now = tuple(x.expand(count, -1, -1) for x in (entities, subjects, objects))
        states = []
        for layer in self.transformer["decoder"]["layers"]:
            states.append(layer(now, patches, positions, places))
            now = states[-1][:3]
        return states

    def read(self, state: DecoderState) -> Relations:
        """Returns the outputs of the heads for a state of any decoder layer."""
        entities, subjects, objects, sub_maps, obj_maps = state
        features = self.mask_features(sub_maps, obj_maps)
        rel_logits = self.rel_class_embed(torch.cat([subjects, objects, features], dim=-1))
        sub_logits, sub_boxes = self.nodes("sub", subjects)
        obj_logits, obj_boxes = self.nodes("obj", objects)
        return Relations(
            rel_logits,
            *(sub_logits, obj_logits, sub_boxes, obj_boxes, sub_maps, obj_maps),
            *self.nodes("entity", entities),
        )

    def nodes(self, branch: str, contents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns class logits (B, Q, classes) and boxes (B, Q, 4) of contents (B, Q, d).

        Args:
            branch: of BRANCHES.
            contents: of the branch's queries, after any decoder layer.
        """
        logits = getattr(self, f"{branch}_class_embed")(contents)
        return logits, getattr(self, f"{branch}_bbox_embed")(contents).sigmoid()

    def mask_features(self, sub_maps: Tensor, obj_maps: Tensor) -> Tensor:
        """Returns features (B, Nt, 128) of the maps (B, Nt, N), to which no gradient flows back."""
        side = math.isqrt(sub_maps.shape[-1])
        maps = torch.stack([sub_maps, obj_maps], dim=2).detach().unflatten(-1, (side, side))
        # A GPU would round the convolutions of float32 to TF32.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = self.so_mask_conv(maps.flatten(0, 1))
        return self.so_mask_fc(found.flatten(1)).unflatten(0, maps.shape[:2])

    def _project(self, embeds: Tensor) -> Tensor:
        """Returns (B, L, d) float32 from embeddings (B, L, P); the convolution is a linear map."""
        return F.linear(embeds.float(), self.input_proj.weight.flatten(1), self.input_proj.bias)
