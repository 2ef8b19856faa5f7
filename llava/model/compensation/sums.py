"""Sums of compensations: texts are joined, every other field comes from one of the terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TypeVar

from torch import nn

from llava.errors import UserError
from llava.model.compensation.supplement import (
    CompensationModule,
    Gives,
    HasSupplement,
    PrunedSample,
    Supplement,
    TextQuery,
)
from llava.model.language_model.tokenizer import Tokenizer
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.pruner import Needs

Term = TypeVar("Term")
_SHOWN = ("candidates", "scores", "chosen", "parts", "title", "scored")  # all of one term


class Sum(nn.Module):
    """Several compensations, run in order; a CompensationModule.

    Attributes:
        needs, gives: those of all terms together.

    Args:
        terms: the compensations by their names.

    Raises:
        UserError: two of them give the same field, and it is not the text.
    """

    def __init__(self, terms: Mapping[str, CompensationModule]) -> None:
        super().__init__()
        for kind in (Gives.FEATURES, Gives.POSITION_IDS, Gives.KEY_BIAS):
            names = [name for name, term in terms.items() if kind in term.gives]
            if len(names) > 1:
                what = str(kind.name).lower().replace("_", " ")
                raise UserError(
                    f"the compensations {' and '.join(names)} both give {what}, and the LLM reads "
                    "one of the two: leave one out"
                )
        self.needs = reduce(or_, (term.needs for term in terms.values()), Needs.NOTHING)
        self.gives = reduce(or_, (term.gives for term in terms.values()), Gives.NOTHING)
        self.writes = " and ".join(term.writes for term in terms.values() if term.writes)
        self.terms = dict(terms)
        self.with_weights = nn.ModuleList(
            term for term in terms.values() if isinstance(term, nn.Module)
        )

    def check(self, query: TextQuery) -> None:
        """Refuses a question that one of the terms cannot compensate; see CompensationModule."""
        for term in self.terms.values():
            term.check(query)

    def room(self, query: TextQuery, tokenizer: Tokenizer) -> int:
        """Returns the positions of the LLM to keep free for all texts."""
        return sum(term.room(query, tokenizer) for term in self.terms.values())

    def use_cuda_graphs(self) -> None:
        """Turns the passes of all terms into CUDA graphs on a GPU."""
        for term in self.terms.values():
            term.use_cuda_graphs()

    def parts(self) -> dict[str, nn.Module]:
        """Returns the modules of all terms whose matrix products have a form."""
        return {name: part for term in self.terms.values() for name, part in term.parts().items()}

    def forward(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[Supplement]:
        """Compensates B samples by each term; see CompensationModule."""
        records = [term(samples, watch) for term in self.terms.values()]
        return [joined(of_sample) for of_sample in zip(*records)]


def joined(records: Iterable[HasSupplement]) -> Supplement:
    """Returns one supplement for the records of a sum's terms for one sample."""
    records = tuple(records)
    whole = Supplement(details=records)
    for given in (record.supplement for record in records):
        found = {
            name: getattr(given, name)
            for name in ("features", "position_ids", "key_bias")
            if getattr(given, name) is not None
        }
        if given.candidates and not whole.candidates:
            found |= {name: getattr(given, name) for name in _SHOWN}
        if given.text is not None and whole.text is None:
            found |= {"text": given.text, "heading": given.heading}
        elif given.text is not None:
            found |= {"text": f"{whole.told} {given.heading} {given.text}"}
        whole = replace(whole, **found)
    return whole


def find_term(compensation: CompensationModule | None, kind: type[Term]) -> Term | None:
    """Returns a compensation, or the term of a sum, that is of a class; None where none is."""
    terms = compensation.terms.values() if isinstance(compensation, Sum) else [compensation]
    return next((term for term in terms if isinstance(term, kind)), None)
