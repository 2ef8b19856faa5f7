"""Measures what each method of a sweep costs, all of them in turn, on a few questions.

The answers of a sweep share what was encoded of the images, and the first method pays for it: their
times do not compare. Here each question is asked alone, from pixels to answer.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tqdm import tqdm

from llava.arguments import AskArguments
from llava.errors import UserError
from llava.eval.bench.measuring import in_turn, inspect, timed
from llava.eval.bench.shapes import pipeline_operations
from llava.eval.benchmarks.question import Question
from llava.eval.caches import Shared
from llava.eval.configurations import Configuration, SweepArguments
from llava.eval.cost import Cost, read_cost, write_cost
from llava.eval.run import Run, request_of
from llava.eval.sessions import machine_name
from llava.mm_utils import load_image
from llava.model.llava_arch import LlavaAccm
from llava.model.loading.placement import placement, uses_cuda_graphs
from llava.model.sample import Answer, Sample
from llava.model.stopwatch import Stopwatch

QUESTIONS = 8  # of a benchmark, evenly spread
ROUNDS = 5


@dataclass
class _Measured:
    """A method with its samples, and what was measured of it so far."""

    configuration: Configuration
    model: LlavaAccm
    samples: list[Sample]
    answers: list[Answer] = field(default_factory=list)
    counted: float | None = None
    peak_bytes: int | None = None
    totals: list[float] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)

    def answer_all(self, watch: Stopwatch) -> list[Answer]:
        """Answers each question once, alone."""
        return [answer for one in self.samples for answer in self.model.answer([one], watch)]


def measure_costs(
    run: Run, configurations: Sequence[Configuration], args: SweepArguments, shared: Shared
) -> None:
    """Measures the methods that have no cost.json yet, and writes one for each.

    Args:
        run: the questions of a benchmark; its answers file is only the folder.
        configurations: the methods.
        args: the flags of the sweep.
        shared: the model.
    """
    todo = [one for one in configurations if read_cost(one.of(run).answers_file) is None]
    if not todo:
        return
    questions = run.questions[:: max(1, len(run.questions) // QUESTIONS)][:QUESTIONS]
    place = placement(args)
    counts = not (args.compile or uses_cuda_graphs(args, place))
    try:
        found = [_prepare(one, questions, one.arguments(args), shared) for one in todo]
    except UserError as error:
        print(f"costs are not measured: {error}", file=sys.stderr)
        return
    with tqdm(total=(ROUNDS + 1) * len(found), desc="costs", unit="run") as progress:
        for one in found:
            # The first question also warms the method up.
            answer = partial(one.model.answer, one.samples[:1])
            _, _, one.counted, one.peak_bytes = inspect(answer, place.device, counts)
            progress.update()
        for _, one in in_turn(found, ROUNDS):
            one.answers, total, stages = timed(one.answer_all, place.device)
            one.totals.append(total / len(one.samples))
            one.stages.append({s: t / len(one.samples) for s, t in stages.items()})
            progress.update()
    for one in found:
        cost = _cost(one, machine_name(place.device.type))
        write_cost(one.configuration.of(run).answers_file, cost)


def _prepare(
    one: Configuration, questions: Sequence[Question], args: AskArguments, shared: Shared
) -> _Measured:
    """Returns a method with its samples, whose images are read but not encoded.

    Raises:
        UserError: an image cannot be read, or a question cannot be asked.
    """
    args = args.without_unused_parts()
    model = shared.load(args)
    samples = [request_of(q, args).sample(load_image(q.image)) for q in questions]
    for sample in samples:
        model.check(sample)
    return _Measured(one, model, samples)


def _cost(one: _Measured, machine: str) -> Cost:
    layers = [tokens_by_layer(one.model, answer) for answer in one.answers]
    texts = [answer.input_length - len(answer.kept_idx) for answer in one.answers]
    operations = [
        pipeline_operations(one.model, read, text, len(answer.out_ids), len(answer.views))
        for read, text, answer in zip(layers, texts, one.answers)
    ]
    return Cost(
        questions=len(one.samples),
        seconds=(middle := statistics.median(one.totals)),
        spread=(max(one.totals) - min(one.totals)) / (2 * middle),
        stages={
            stage: statistics.median(times[stage] for times in one.stages)
            for stage in one.stages[0]
        },
        operations=statistics.mean(operations),
        counted=one.counted,
        tokens_by_layer=[statistics.mean(of_layer) for of_layer in zip(*layers)],
        peak_bytes=one.peak_bytes,
        machine=machine,
    )


def tokens_by_layer(model: LlavaAccm, answer: Answer) -> Sequence[int]:
    """Returns the number of visual tokens that each layer of the LLM has read for an answer."""
    if answer.pruned is not None and answer.pruned.plan is not None:
        return answer.pruned.plan.tokens_per_layer
    return [len(answer.kept_idx)] * model.language_model.llm.config.num_hidden_layers
