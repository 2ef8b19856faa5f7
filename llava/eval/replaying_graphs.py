"""Recorded cases of the scene graph, run one by one: relation model, filter and choice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from llava.errors import UserError, quoted
from llava.eval.replaying import Recorded, write_lines
from llava.files import is_there, printable, read_json
from llava.model.compensation.relation_builder import load_relation_model, round_input
from llava.model.compensation.relation_model import RelationModel
from llava.model.compensation.triplets import (
    NO_ROUNDING,
    ROUNDINGS,
    Names,
    SceneGraph,
    choose,
    find_triplets,
    join_texts,
    names_of,
    vg150_names,
)

_MODELS = 4  # relation models that are there at once


class RecordedGraphs:
    """A folder of recorded cases of the scene graph, and its weights.

    Args:
        folder: has cases.json, inputs.npz and outputs.npz.
        weights: folders in which the files weights_NAME are looked for.
    """

    def __init__(self, folder: Path, weights: Sequence[Path]) -> None:
        self._folder, self._weights = folder, weights
        self._open = lru_cache(maxsize=2)(lambda what: Recorded(folder / f"{what}.npz", what))
        self.model = lru_cache(maxsize=_MODELS)(self._model)

    def read(self, what: str, name: object) -> Tensor:
        """Returns an array of the inputs or the outputs in float32.

        Raises:
            UserError: it is missing or damaged.
        """
        if not isinstance(name, str):
            raise UserError(f"{quoted(name)} is no name of an array of the {what}")
        return torch.from_numpy(self._open(what).read(name)).float()

    def _model(self, name: str, rounding: str) -> RelationModel:
        """Returns the relation model of a name; see weights_file."""
        return load_relation_model(self.weights_file(name), rounding=rounding)

    def weights_file(self, name: str) -> Path:
        """Returns the file of a relation model.

        Raises:
            UserError: it is in none of the folders.
        """
        if not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"{quoted(name)} is no name of weights")
        names = [f"weights_{name}{ending}" for ending in (".safetensors", ".pth")]
        found = [folder / file for folder in self._weights for file in names]
        found = [path for path in found if is_there(path)]
        if not found:
            folders = ", ".join(str(folder) for folder in self._weights)
            raise UserError(f"there is no {names[-1]} in {folders}: name its folder in --weights")
        return found[0]


def replay_graphs(folder: Path, weights: Sequence[Path], output: Path) -> int:
    """Replays all cases of a folder and writes what the scene graph chooses.

    Args:
        folder, weights: see RecordedGraphs.
        output: for a line of JSON for each case, and for each call of a filter case.

    Returns:
        The exit status: 0, or SOME_FAILED if a line is an error.

    Raises:
        UserError: the cases cannot be read, or the output not be written.
    """
    found = read_json(folder / "cases.json")
    models, filters = found.get("cases", []), found.get("filter_cases", [])
    if not isinstance(models, list) or not isinstance(filters, list) or not models + filters:
        raise UserError(
            f"{folder / 'cases.json'} has no lists under cases or filter_cases: name a folder of "
            "recorded cases of the scene graph"
        )
    recorded = RecordedGraphs(folder, weights)
    calls: list[tuple[object, int | None]] = [(case, None) for case in models]
    calls += [call for case in filters for call in _calls(case)]
    lines = []
    for case, call in tqdm(calls, "cases", unit="case", smoothing=0):
        name = case.get("id") if isinstance(case, dict) else None
        name = name if call is None else f"{name}/{call}"
        try:
            lines.append({"id": name} | replay_graph(case, call, recorded))
        except UserError as error:
            lines.append({"id": name, "error": printable(error)})
    return write_lines(output, lines)


def _calls(case: object) -> Iterator[tuple[object, int | None]]:
    """Yields a filter case with the number of each call, from 0, as its arrays are named."""
    calls = case.get("calls") if isinstance(case, dict) else None
    if not isinstance(calls, list) or not calls:
        yield case, -1  # an error line
    else:
        yield from ((case, number) for number in range(len(calls)))


def replay_graph(case: object, call: int | None, recorded: RecordedGraphs) -> dict:
    """Returns the line of a case, or of a call of a filter case, without its id.

    Raises:
        UserError: the case, its weights or its arrays are missing or damaged.
    """
    if not isinstance(case, dict) or not isinstance(case.get("id"), str):
        raise UserError("a case must be an object with an id")
    if call is not None and call < 0:
        raise UserError("a filter case must have a list of calls")
    question = recorded.read("inputs", case.get("question_embed"))
    if question.dim() != 1 or not len(question):
        raise UserError(f"the question's embedding has shape {tuple(question.shape)}, not (P,)")
    if call is None:
        said, name = case, case["id"]
        question, *logits = _run_model(case, question, recorded)
        names = names_of(recorded.weights_file(case["weights"]))
    else:
        said, name, names = case["calls"][call], f"{case['id']}/{call}", vg150_names()
        kinds = ("rel_logits", "sub_logits", "obj_logits")
        logits = [recorded.read("outputs", f"{name}/{kind}") for kind in kinds]
    rel_logits, sub_logits, obj_logits = _checked(logits, names)
    graph = find_triplets(rel_logits, sub_logits, obj_logits, names)
    chosen: list[int] = []
    if graph.triplets:
        texts = _text_embeds(graph, said, recorded.read("outputs", f"{name}/triplet_embeds"))
        if texts.shape[1] != len(question):
            raise UserError("the embeddings of question and texts are of different widths")
        chosen, _ = choose(texts, question)
    return {
        "passed": graph.passed,
        "kept": [triplet.query for triplet in graph.kept],
        "triplets": graph.texts,
        "chosen": chosen,
        "text": join_texts([graph.texts[place] for place in chosen]),
        "null": not graph.triplets,
    }


@torch.inference_mode()
def _run_model(case: dict, question: Tensor, recorded: RecordedGraphs) -> tuple[Tensor, ...]:
    """Returns the question (P,) as the model reads it, and the three logits of a case."""
    weights, rounding = case.get("weights"), case.get("rounding") or NO_ROUNDING
    if not isinstance(weights, str):
        raise UserError(f"the weights are {quoted(weights)}; they must be the name of a file's")
    if rounding not in ROUNDINGS:
        raise UserError(f"there is no rounding {quoted(rounding)}: use {', '.join(ROUNDINGS)}")
    model = recorded.model(weights, rounding)
    patches, width = recorded.read("inputs", case.get("patches")), model.embed_dim
    if patches.dim() != 2 or not len(patches) or {patches.shape[1], len(question)} != {width}:
        shapes = f"{tuple(patches.shape)} and {tuple(question.shape)}"
        raise UserError(f"patches and question have shapes {shapes}, not (N, {width}), ({width},)")
    patches, question = round_input(patches, rounding), round_input(question, rounding)
    found = model(patches[None], question[None])
    return question, found.rel_logits[0], found.sub_logits[0], found.obj_logits[0]


def _checked(logits: list[Tensor], names: Names) -> tuple[Tensor, Tensor, Tensor]:
    """Returns three logits (Nt, ...) that belong together.

    Raises:
        UserError: they do not, or are not of the objects and predicates that have names.
    """
    shapes = [tuple(part.shape) for part in logits]
    if {len(shape) for shape in shapes} != {2} or len({shape[0] for shape in shapes}) > 1:
        raise UserError(f"the logits have shapes {shapes}, which do not belong together")
    for subjects_or_objects in shapes[1:]:
        names.check(subjects_or_objects[1], shapes[0][1], "the model of the case")
    rel_logits, sub_logits, obj_logits = logits
    return rel_logits, sub_logits, obj_logits


def _text_embeds(graph: SceneGraph, said: object, embeds: Tensor) -> Tensor:
    """Returns the recorded embeddings (n, P) in the order of a graph's texts.

    They are recorded in the order of the case's triplets, which may differ where scores are equal;
    a case that does not list them has them in the order of the texts.

    Raises:
        UserError: a text has none.
    """
    listed = said.get("triplets") if isinstance(said, dict) else None
    texts = graph.texts if listed is None else listed
    if embeds.dim() != 2 or not isinstance(texts, list) or len(texts) != len(embeds):
        raise UserError(f"triplet_embeds has shape {tuple(embeds.shape)}, not one row a triplet")
    places = {text: place for place, text in enumerate(texts) if isinstance(text, str)}
    missing = [text for text in graph.texts if text not in places]
    if missing:
        raise UserError(f"the case has no embedding of the triplet {quoted(missing[0])}")
    return embeds[[places[text] for text in graph.texts]]
