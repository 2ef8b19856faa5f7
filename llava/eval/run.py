"""A benchmark run, from questions to an answers file, however often it is interrupted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import shortuuid
from tqdm import tqdm

from llava.arguments import AskArguments
from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.eval.caches import Shared
from llava.eval.engine import Clock, Outcome, Request, Unit, answer_units, units_by_length
from llava.eval.journal import RESOLVED, Journal, check_images, image_bytes
from llava.eval.outcomes import merge_outcomes
from llava.eval.progress import (
    answered_keys,
    how_far,
    report_run,
    say_what_was_before,
    show_progress,
)
from llava.eval.sessions import noting_session
from llava.files import printable
from llava.method import label_of, method_of
from llava.model.backbones.registry import most_tokens, reads_views
from llava.model.checks import check_needs
from llava.model.compensation.triplets import changed_settings
from llava.model.loading.parts import read_model
from llava.model.loading.placement import Placement, placement
from llava.model.products.forms import PARTS_OF, PRUNING_PARTS, choose_forms, described
from llava.model.sample import Answer
from llava.model.token_pruning.registry import asked_budget, budget_of, check_views, resolved
from llava.utils.distributed import Processes
from llava.utils.stopping import noting_what_is_kept

# Packages whose version may change an answer.
_DECIDING = ("torch", "transformers", "open_clip_torch")

AnswerRecord = Callable[[Question, str, str, str], dict]


@dataclass(frozen=True)
class Run:
    """The questions of a run, and where its answers go.

    Attributes:
        benchmark: name of the benchmark.
        questions: all questions, in the order of the answers file.
        answer_record: makes a line of the answers file from a question, an answer, an answer id and
            a model id.
        answers_file: the file for the answers.
        model_id: name of the model in the answers file.
        elsewhere: how the user chooses another answers file.
        limit: the --limit that chose the questions; None if they are all of the benchmark.
    """

    benchmark: str
    questions: Sequence[Question]
    answer_record: AnswerRecord
    answers_file: Path
    model_id: str
    elsewhere: str = "name another --answers-file"
    limit: int | None = None


def answer_questions(
    run: Run, args: AskArguments, shared: Shared | None = None, part: slice = slice(None)
) -> int:
    """Answers all questions without an answer, jointly if there are several processes.

    Args:
        run: the run.
        args: the flags for answering.
        shared: the model and caches of this process's other runs; None if this is the only run.
        part: the units (see units_of) that are answered now. The answers file is written, and the
            result reported, with the last part, which has no end.

    Returns:
        The exit status: 0, or SOME_FAILED if a question could not be answered.

    Raises:
        UserError: the run cannot start or continue; existing answers are kept.
    """
    processes = Processes(args.device)
    args = dataclasses.replace(args.without_unused_parts(), device=processes.device)
    shared = Shared(compensation=False) if shared is None else shared
    units = units_of(run, args)[part]
    clock = Clock()
    with (
        _open_journal(run, args, processes, shared) as journal,
        noting_what_is_kept(lambda: how_far(run, processes, journal)),
    ):
        before = _gather_outcomes(processes, journal)
        check_images(run, before)
        done = answered_keys(before)
        # Machines that share a disk find the same damage.
        damage = sorted(set().union(*processes.gather(journal.damage)))
        # Whole units are answered again, even if some of their questions are done, so that each
        # answer is computed in the same batch as in an uninterrupted run.
        todo = [unit for unit in units if any(r.id not in done for batch in unit for r in batch)]
        if todo and processes.is_first and not part.start:
            say_what_was_before(run, done, damage)
        with noting_session(run.answers_file, processes.rank, placement(args).device.type, clock):
            _answer_share(run, args, processes, processes.share(todo), done, journal, clock, shared)
        processes.wait()  # all journals are complete now
        if part.stop is not None:
            return 0
        outcomes = _gather_outcomes(processes, journal)
        if processes.is_first:
            found = [outcomes.get(question.key, {}) for question in run.questions]
            journal.publish(outcome["record"] for outcome in found if "record" in outcome)
        processes.wait()  # a launcher ends all processes as soon as one fails
    if not processes.is_first:
        return 0
    return report_run(run, outcomes, Clock() if part.start else clock)  # it has the last part only


def _gather_outcomes(processes: Processes, journal: Journal) -> dict[str, dict]:
    """Returns the outcomes in the journals of all machines; one process per machine reads them."""
    found = processes.gather(journal.outcomes() if processes.is_first_here else {})
    return merge_outcomes(outcome for outcomes in found for outcome in outcomes.values())


def _answer_share(
    run: Run,
    args: AskArguments,
    processes: Processes,
    units: Sequence[Unit],
    done: set[str],
    journal: Journal,
    clock: Clock,
    shared: Shared,
) -> None:
    """Answers the units of this process and writes its journal."""
    if not units:
        return
    model = shared.load(args)
    check_needs(model, args.method)  # else every question would fail by itself
    questions = {question.key: question for question in run.questions}
    texts = shared.texts([question.tower_question for question in run.questions])
    outcomes = answer_units(model, units, clock, shared.images, texts)
    todo = sum(request.id not in done for unit in units for batch in unit for request in batch)
    # One of several processes shows its own part, and an equal part of the earlier answers, so that
    # the share shown is that of the whole run.
    before = len(done) // processes.count
    with show_progress(run.benchmark, before + todo, before, processes.is_first) as progress:
        for outcome in outcomes:
            if outcome.request.id in done:
                continue
            line = _line(run, questions[str(outcome.request.id)], outcome, args.batch_size)
            if "error" in line:
                tqdm.write(f"error: question {line['key']}: {line['error']}", file=sys.stderr)
            journal.append(line)
            progress.update()


def units_of(run: Run, args: AskArguments) -> list[Unit]:
    """Returns the units in which a run is answered; see units_by_length."""
    return units_by_length([request_of(q, args) for q in run.questions], args.batch_size)


def request_of(question: Question, args: AskArguments) -> Request:
    """Returns a question as it is asked with some flags."""
    return Request(
        id=question.key,
        image=question.image,
        question=question.prompt,
        tower_question=question.tower_question,
        max_new_tokens=question.max_new_tokens,
        **method_of(args),
    )


def _line(run: Run, question: Question, outcome: Outcome, batch_size: int) -> dict:
    """Returns a line of the journal: an answer, or why there is none.

    "asked" holds what an answer depends on but may change in a continued run: a missing image may
    be added, and a batch that did not fit be made smaller (in half precision a few answers change
    with it, see docs/exactness.md).
    """
    key = printable(question.key)
    # Derived, not random: the same run gives the same file.
    answer_id = shortuuid.uuid(name=f"{printable(run.model_id)} {run.benchmark} {key}")

    def record(answer: Answer) -> dict:
        return {
            "key": question.key,
            "record": run.answer_record(question, answer.text, answer_id, run.model_id),
            "trace": _trace(answer),
            "asked": {"image_bytes": image_bytes(question), "batch_size": batch_size},
        }

    return outcome.line({"key": key}, record)


def _trace(answer: Answer) -> dict:
    """Returns the parts of an answer that a report shows beside its text."""
    supplement = answer.supplement
    resolved = {} if answer.resolved_num is None else {RESOLVED: answer.resolved_num}
    return resolved | {
        "kept_idx": answer.kept_idx,
        **answer.views_record,
        "captions": supplement and list(supplement.candidates),
        "selector_scores": supplement and list(supplement.scores),
        "chosen_index": supplement and supplement.chosen,
    }


def _open_journal(run: Run, args: AskArguments, processes: Processes, shared: Shared) -> Journal:
    """Opens the journal of this process.

    Raises:
        UserError: on every process, if one of them cannot start.
    """
    journal, error = None, None
    try:
        settings = run_settings(run, args, shared)
        journal = Journal(run.answers_file, settings, processes.rank, run.elsewhere)
    except UserError as problem:
        error = str(problem)
    errors = [problem for problem in processes.gather(error) if problem]
    if journal is not None and not errors:
        return journal
    if journal is not None:
        journal.close()
    raise UserError(errors[0])


def run_settings(run: Run, args: AskArguments, shared: Shared) -> dict:
    """Returns all that the answers depend on, JSON; only a run with the same settings continues."""
    asked = [(q.key, q.prompt, q.tower_question, q.max_new_tokens) for q in run.questions]
    parts, config = read_model(args)
    place = placement(args)
    num_patches = most_tokens(parts, config)
    method = resolved(args.method)
    budget = budget_of(method, num_patches)
    options = changed_settings(args.compensation_options)
    compensation = " ".join([args.compensation_name, *(f"{k}={v}" for k, v in options.items())])
    packages = _DECIDING if args.bits is None else (*_DECIDING, "bitsandbytes")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}; it must be at least 0")
    check_views(method, reads_views(config))
    split = {} if method.view_split is None else {"view_split": method.view_split}
    on_gpu = {"eager": args.eager} if place.device.type == "cuda" else {}
    return {
        "benchmark": run.benchmark,
        "model_id": run.model_id,
        "pruner": method.pruner,
        "pruner_options": method.pruner_options,
        "compensation": args.compensation_name,
        "compensation_options": options,
        "method": label_of(method, compensation, budget.visual_token_num, num_patches),
        "visual_token_num": 0 if method.sees_nothing else asked_budget(method, num_patches),
        "text_token_num": budget.text_token_num,
        "num_patches": num_patches,
        "limit": run.limit,
        "questions": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        "seed": args.seed,
        "dtype": str(place.dtype).removeprefix("torch."),
        "device": place.device.type,
        "quantized": args.bits,
        "compile": args.compile,
        "cpu_products": _products(args, place),
        "patch_post_layernorm": args.patch_post_layernorm,
        "text_selection": args.text_selection,
        "silence": args.silence,
        "checkpoints": {part: shared.fingerprint(path) for part, path in parts.items()},
        "versions": {name: version(name) for name in packages},
        **split,
        **on_gpu,
    }


def _products(args: AskArguments, place: Placement) -> str:
    """Returns which form the matrix products of the loaded parts have."""
    forms = choose_forms(args.cpu_products, place.device, place.dtype, args.compile)
    loaded = {part for file in args.compensation_parts for part in PARTS_OF.get(file, ())}
    forms = {part: form for part, form in forms.items() if part in loaded | {*PRUNING_PARTS}}
    return described(forms, args.cpu_products)
