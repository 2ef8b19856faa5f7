"""From the relation model's logits to a scene graph in words: pure functions of one image.

The rules are those of ACCM's public code of 2026-02, for which no paper exists. Equal scores keep
the order of their queries, equal similarities that of their texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.errors import UserError, quoted
from llava.files import is_there, read_json
from llava.method import Options, given_options
from llava.model.loading.parts import names_file
from llava.model.token_pruning.options import settings_of, typed

PLACEHOLDER = 0  # the index of "N/A" among the objects, and of "__background__"
NO_ROUNDING, HALF_BFLOAT16 = "none", "half-bfloat16"
ROUNDINGS = (NO_ROUNDING, HALF_BFLOAT16)


@dataclass(frozen=True)
class SceneGraphSettings:
    """The settings of a scene graph; the defaults are those of ACCM's public code.

    Attributes:
        threshold: subject, predicate and object must each be more probable than this.
        candidates: the largest number of triplets, by the product of their probabilities.
        chosen: the largest number of texts that are given to the LLM.
        heading: precedes the texts.
        rounding: "half-bfloat16" rounds weights and inputs as ACCM's scripts do on a GPU, and
            computes in float32; "none" does not round.
        drop_placeholders: whether triplets with "N/A" or "__background__" are left out.
        repeats_first: whether repeated pairs of names are removed before the cut to the candidates,
            so that they take no places.
    """

    threshold: float = 0.3
    candidates: int = 30
    chosen: int = 7
    heading: str = "supplemented scene graph:"
    rounding: str = NO_ROUNDING
    drop_placeholders: bool = False
    repeats_first: bool = False

    def check(self) -> None:
        """Refuses settings with which no graph can be found.

        Raises:
            UserError: names the setting.
        """
        wrong = {
            "threshold": not 0 <= self.threshold < 1 and "from 0 to below 1",
            "candidates": self.candidates < 1 and "at least 1",
            "chosen": self.chosen < 1 and "at least 1",
            "rounding": self.rounding not in ROUNDINGS and " or ".join(ROUNDINGS),
        }
        for name, rule in wrong.items():
            if rule:
                value = quoted(getattr(self, name))
                raise UserError(f"scene-graph: setting {name} is {value}; it must be {rule}")


def graph_settings(given: Options) -> SceneGraphSettings:
    """Returns the settings that options mean, values by name or texts NAME=VALUE.

    Raises:
        UserError: a name is unknown, or a value is invalid.
    """
    named = given_options(given, "compensation")
    try:
        settings = settings_of(SceneGraphSettings, typed(SceneGraphSettings, named))
    except UserError as error:
        raise UserError(f"scene-graph: {error}") from error
    settings.check()
    return settings


def changed_settings(given: Options) -> dict[str, object]:
    """Returns those settings that options change, by name; see graph_settings."""
    usual = asdict(SceneGraphSettings())
    now = asdict(graph_settings(given))
    return {name: value for name, value in now.items() if value != usual[name]}


@dataclass(frozen=True)
class Names:
    """The names of objects and predicates by index; an index after the last means none."""

    classes: tuple[str, ...]
    predicates: tuple[str, ...]

    def check(self, num_classes: int, num_predicates: int, source: str) -> None:
        """Refuses a model of another number of objects or predicates.

        Raises:
            UserError: names the model by its source.
        """
        wanted = len(self.classes) + 1, len(self.predicates) + 1
        if (num_classes, num_predicates) != wanted:
            raise UserError(
                f"{source} tells {num_classes} objects and {num_predicates} predicates apart, and "
                f"there are names for {wanted[0]} and {wanted[1]}, each with one for none: it was "
                "trained on other data"
            )


@lru_cache(maxsize=1)
def vg150_names() -> Names:
    """Returns the 150 objects and 50 predicates of Visual Genome's usual split, VG150."""
    return _read_names(Path(__file__).with_name("vg150.json"))


def names_of(weights: Path) -> Names:
    """Returns the names that a relation model was trained with: VG150's where no file says them.

    Raises:
        UserError: the file beside the weights is damaged.
    """
    path = names_file(weights)
    return _read_names(path) if is_there(path) else vg150_names()


def _read_names(path: Path) -> Names:
    found = read_json(path)
    kinds = [found.get(kind) for kind in ("classes", "predicates")]
    for names in kinds:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(
                f"{path} has no lists of texts under classes and predicates: fetch it again"
            )
        if len(set(names)) < max(2, len(names)):
            raise UserError(f"{path} lacks names, or has one twice: fetch it again")
    return Names(*(tuple(names or ()) for names in kinds))


@dataclass(frozen=True)
class Triplet:
    """A subject, a predicate and an object, as a triplet query found them.

    Attributes:
        query: the index of the query.
        rel, sub, obj: indices of the likeliest predicate and objects.
        p_rel, p_sub, p_obj: their probabilities.
        score: the product of the three.
        text: "subject predicate object".
    """

    query: int
    rel: int
    sub: int
    obj: int
    p_rel: float
    p_sub: float
    p_obj: float
    score: float
    text: str


@dataclass(frozen=True)
class SceneGraph:
    """The triplets of one image.

    Attributes:
        passed: the queries over the threshold, rising.
        kept: the best of them, by falling score.
        triplets: of these, the best one for each pair of subject and object.
    """

    passed: list[int]
    kept: list[Triplet]
    triplets: list[Triplet]

    @property
    def texts(self) -> list[str]:
        """The texts of the triplets."""
        return [triplet.text for triplet in self.triplets]


def find_triplets(
    rel_logits: Tensor,
    sub_logits: Tensor,
    obj_logits: Tensor,
    names: Names,
    settings: SceneGraphSettings = SceneGraphSettings(),
) -> SceneGraph:
    """Returns the triplets of one image.

    Probabilities are taken over all classes, "none" included, which is then left out: a query can
    pass although none is its likeliest class.

    Args:
        rel_logits: (Nt, predicates).
        sub_logits, obj_logits: (Nt, classes).
        names: of classes and predicates.
        settings: how they are filtered.
    """
    logits = rel_logits, sub_logits, obj_logits
    best = [part.float().softmax(-1)[:, :-1].max(dim=-1) for part in logits]
    probs, indices = (torch.stack(list(parts)).cpu() for parts in zip(*best))
    p_rel, p_sub, p_obj = probs
    passes = (probs > settings.threshold).all(dim=0)
    if settings.drop_placeholders:
        passes &= (indices != PLACEHOLDER).all(dim=0)
    scores = p_rel * p_sub * p_obj
    passed = passes.nonzero().flatten()
    order = passed[scores[passed].argsort(descending=True, stable=True)].tolist()
    which, likely, products = indices.T.tolist(), probs.T.tolist(), scores.tolist()
    found = [_triplet(q, which[q], likely[q], products[q], names) for q in order]
    if settings.repeats_first:
        found = _without_repeats(found)
    kept = found[: settings.candidates]
    return SceneGraph(passed.tolist(), kept, _without_repeats(kept))


def _triplet(
    query: int, indices: list[int], probs: list[float], score: float, names: Names
) -> Triplet:
    """Returns a query's triplet from its three indices and probabilities, the predicate first."""
    rel, sub, obj = indices
    p_rel, p_sub, p_obj = probs
    text = f"{names.classes[sub]} {names.predicates[rel]} {names.classes[obj]}"
    return Triplet(query, rel, sub, obj, p_rel, p_sub, p_obj, score, text)


def _without_repeats(triplets: list[Triplet]) -> list[Triplet]:
    """Returns the first triplet of each ordered pair of subject and object."""
    first: dict[tuple[int, int], Triplet] = {}
    for triplet in triplets:
        first.setdefault((triplet.sub, triplet.obj), triplet)
    return list(first.values())


def choose(
    texts: Tensor, question: Tensor, settings: SceneGraphSettings = SceneGraphSettings()
) -> tuple[list[int], list[float]]:
    """Returns the texts most similar to the question, and the similarity of each text.

    Args:
        texts: (n, P), embeddings of the texts, of any length.
        question: (P,), the question's.

    Returns:
        At most settings.chosen indices by falling similarity, and n cosines.
    """
    unit, towards = F.normalize(texts.float(), dim=-1), F.normalize(question.float(), dim=-1)
    similarity = (unit * towards).sum(-1).cpu()  # row by row: equal texts are equally similar
    order = similarity.argsort(descending=True, stable=True)
    return order[: settings.chosen].tolist(), similarity.tolist()


def join_texts(texts: Sequence[str]) -> str:
    """Returns the chosen texts as a sentence; of none, a full stop, which the LLM never gets."""
    return ", ".join(texts) + "."
