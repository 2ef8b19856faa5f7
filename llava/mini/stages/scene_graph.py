"""The relation model of the mini model: scene graphs of drawn scenes.

The drawn world knows its objects, their boxes and how they stand, which real pictures have from
Visual Genome. The model reads the patches of the frozen tower and a question about the image, and
is matched with the true graph (arXiv 2201.11460). Three things differ from the published recipe, to
learn in minutes on a CPU. Predicates are learnt from the last layer and one image in ONE_IN only,
for their convolutions would be most of the work. Triplets are matched by subjects and objects,
which no two triplets of a scene share. There is no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from llava.errors import UserError
from llava.files import write_json
from llava.mini.graphs import MOST_TRIPLETS, NAMES, Node, Relation, node_of, relations_of
from llava.mini.stages.arguments import SceneGraphArguments
from llava.mini.stages.mini_llava import mini_features
from llava.mini.stages.set_losses import (
    Nodes,
    Truths,
    class_loss,
    is_right,
    match,
    node_costs,
    node_loss,
    targets,
)
from llava.mini.training_set import TrainingSet, read_training_set
from llava.model.builder import load_vision
from llava.model.compensation.relation_layers import BRANCHES, DecoderState
from llava.model.compensation.relation_model import RelationModel, RelationSizes
from llava.model.loading.parts import names_file
from llava.model.shapes import MINI
from llava.train.arguments import model_arguments
from llava.train.batches import TensorBatch
from llava.train.captions import tower_questions
from llava.train.closing import command_line, finish, write_weights
from llava.train.features import ImageFeatures, encode_questions, vision_settings
from llava.train.provenance import hashes_of
from llava.train.pruning import draw
from llava.train.stage import Stage, open_stage
from llava.train.trainer import train

ONE_IN = 4  # one image in this number teaches predicates
MEASURED = 512  # images from which the statistics of the norms are taken, when all is learnt
_WHOLE = (0.5, 0.5, 1.0, 1.0)  # a box for padding
SIZES = RelationSizes(
    embed_dim=MINI.projection,
    width=64,
    feedforward=128,
    encoder_layers=1,
    decoder_layers=2,
    num_entities=8,
    num_triplets=24,
    num_classes=len(NAMES.classes) + 1,
    num_predicates=len(NAMES.predicates) + 1,
)


@dataclass(frozen=True)
class GraphBatch(TensorBatch):
    """B images with a question about each, and their scene graphs.

    Attributes:
        patches: (B, N, P), the tower's.
        questions: (B, P), not normalised.
        entities: the objects.
        subjects, objects: of the triplets.
        predicates: (B, M) int64, of the triplets.
    """

    patches: Tensor
    questions: Tensor
    entities: Truths
    subjects: Truths
    objects: Truths
    predicates: Tensor


class GraphObjective(nn.Module):
    """The objective of the stage: the relation model says the true graph.

    Args:
        model: the model that is trained.
    """

    def __init__(self, model: RelationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: GraphBatch) -> dict[str, Tensor]:
        """Sums losses over images.

        "predicates" is their part of the loss. "recall" is the share of the true triplets whose
        query says all three names, whatever their probabilities.
        """
        loss = batch.patches.new_zeros(())
        for state in self.model.decode(batch.patches, batch.questions):
            nodes = [Nodes(*self.model.nodes(*of)) for of in zip(BRANCHES, state[:3])]
            of_layer, queries = _node_losses(nodes, batch)
            loss = loss + of_layer
        count = max(1, len(queries) // ONE_IN)
        found = self.model.read(DecoderState(*(part[:count] for part in state)))
        num_queries, none = found.rel_logits.shape[1], found.rel_logits.shape[2] - 1
        wanted = targets(queries[:count], batch.predicates[:count], num_queries, none)
        logits = found.sub_logits, found.rel_logits, found.obj_logits
        scale = len(queries) / count
        predicates = scale * class_loss(found.rel_logits, wanted)
        return {
            "loss": loss + predicates,
            "predicates": predicates.detach(),
            "recall": scale * _recall([part.argmax(-1) for part in logits], batch, queries[:count]),
        }


def _node_losses(nodes: Sequence[Nodes], batch: GraphBatch) -> tuple[Tensor, Tensor]:
    """Returns the losses of a layer's classes and boxes, and the query (B, M) of each triplet.

    Args:
        nodes: of entities, subjects and objects.
        batch: the truths.
    """
    entities, subjects, objects = nodes
    own = match(node_costs(entities, batch.entities), batch.entities.valid)
    loss = node_loss(entities, batch.entities, own)
    costs = node_costs(subjects, batch.subjects) + node_costs(objects, batch.objects)
    queries = match(costs, batch.subjects.valid)
    for found, truths in ((subjects, batch.subjects), (objects, batch.objects)):
        loss = loss + node_loss(found, truths, queries, is_right(found, truths))
    return loss, queries


def _recall(said: Sequence[Tensor], batch: GraphBatch, queries: Tensor) -> Tensor:
    """Returns the share of triplets whose query says all names, summed over the first images.

    Args:
        said: (b, Q) each, the likeliest subjects, predicates and objects.
        batch: the truths of at least b images.
        queries: (b, M), see match.
    """
    index = queries.clamp(max=said[0].shape[1] - 1)
    truths = batch.subjects.classes, batch.predicates, batch.objects.classes
    valid = batch.subjects.valid[: len(queries)]
    right = [part.gather(1, index) == true[: len(queries)] for part, true in zip(said, truths)]
    whole = right[0] & right[1] & right[2] & valid
    return (whole.sum(1) / valid.sum(1)).sum()


@dataclass(eq=False)
class GraphData:
    """Images with their graphs, and a random question about each.

    Attributes:
        texts: the training set.
        features: of its images.
        questions: the embedding (P,) of each question, not normalised.
    """

    texts: TrainingSet
    features: ImageFeatures
    questions: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.features)

    def collate(self, indices: list[int], generator: torch.Generator) -> GraphBatch:
        """Returns a batch of images."""
        pairs = [draw(self.texts.conversations[i].pairs, generator) for i in indices]
        patches = [self.features.image(i).patch_embeds for i in indices]
        scenes = [self.texts.scenes[i] for i in indices]
        return graph_batch(
            torch.stack([embeds for embeds in patches if embeds is not None]),
            torch.stack([self.questions[tower_questions(asked)[0]] for asked, _ in pairs]),
            [[node_of(thing) for thing in things] for things in scenes],
            [relations_of(things) for things in scenes],
        )

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's images."""
        return ", ".join(self.texts.images[index] for index in indices)


def graph_batch(
    patches: Tensor,
    questions: Tensor,
    entities: Sequence[Sequence[Node]],
    relations: Sequence[Sequence[Relation]],
) -> GraphBatch:
    """Makes a batch of B images; see GraphBatch."""
    predicates = torch.zeros(len(relations), MOST_TRIPLETS, dtype=torch.long)
    for row, of_image in zip(predicates, relations):
        row[: len(of_image)] = torch.tensor([relation.predicate for relation in of_image])
    return GraphBatch(
        patches,
        questions,
        _truths(entities, max(map(len, entities))),
        _truths([[one.subject for one in of_image] for of_image in relations], MOST_TRIPLETS),
        _truths([[one.object for one in of_image] for of_image in relations], MOST_TRIPLETS),
        predicates,
    )


def _truths(nodes: Sequence[Sequence[Node]], longest: int) -> Truths:
    padded = [[*row, *[Node(0, _WHOLE)] * (longest - len(row))] for row in nodes]
    return Truths(
        torch.tensor([[node.name for node in row] for row in padded]),
        torch.tensor([[node.box for node in row] for row in padded]),
        torch.tensor([[place < len(row) for place in range(longest)] for row in nodes]),
    )


def new_relation_model(seed: int) -> RelationModel:
    """Returns an untrained relation model for the mini world."""
    torch.manual_seed(seed)
    model = RelationModel(SIZES)
    for parameter in model.transformer.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return model


@torch.no_grad()
def measure_statistics(model: RelationModel, data: GraphData, batch_size: int = 32) -> None:
    """Takes the running statistics of the model's norms from the first images, in place.

    A checkpoint of the loop has no buffers, and those of a run would depend on how its batches were
    split; these follow from the trained weights alone.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    model.train()
    count = min(MEASURED, len(data))
    device = model.input_proj.weight.device
    for start in range(0, count, batch_size):
        generator = torch.Generator().manual_seed(start)
        indices = list(range(start, min(start + batch_size, count)))
        batch = data.collate(indices, generator).to(device)
        model(batch.patches, batch.questions)
    model.eval()


def train_scene_graph(args: SceneGraphArguments) -> int:
    """Runs the stage."""
    if None in (args.model_path, args.data, args.output, args.output_dir):
        raise UserError("name --model-path, --data, --output-dir and --output")
    with open_stage("train_scene_graph", args) as stage:
        return _train(stage, args)


def _train(stage: Stage, args: SceneGraphArguments) -> int:
    folder, output = Path(args.data), Path(args.output)
    texts = read_training_set(folder)
    seen = load_vision(model_arguments(args))
    cache = Path(args.features or Path(args.output_dir) / "features")
    features = mini_features(folder, cache, texts, seen, stage.team)
    asked = [tower_questions(q)[0] for about in texts.conversations for q, _ in about.pairs]
    questions = encode_questions(seen.tower, seen.tokenizer, asked, is_unit=False)
    data = GraphData(texts, features, questions)
    model = new_relation_model(args.seed)
    inputs = {"conversations": folder / "conversations.json", "scenes": folder / "texts.jsonl"}
    inputs |= {"vision_tower": seen.folder}
    chosen = vision_settings(seen)
    chosen |= dict(inputs={name: hashes_of(path) for name, path in inputs.items()})
    train(stage, GraphObjective(model), data, chosen)
    use = command_line(
        "llava.serve.cli",
        model_path=args.model_path,
        compensation="scene-graph",
        scene_graph=output,
    )
    return finish(stage, chosen, inputs, use, partial(_write, model, data, output))


def _write(model: RelationModel, data: GraphData, output: Path) -> list[Path]:
    """Writes the weights, and beside them the names that they were trained with."""
    measure_statistics(model, data)
    state = model.state_dict()
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    written = write_weights({output: {k: t for k, t in state.items() if k not in counters}})
    write_json(names_file(output), {"classes": NAMES.classes, "predicates": NAMES.predicates})
    return [*written, names_file(output)]
