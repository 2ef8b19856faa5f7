"""Methods side by side on one machine: measured, printed as a table, written into files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from llava.compensations import CAPTIONS, UNCOMPENSATED
from llava.errors import UserError
from llava.eval.bench.arguments import (
    ACCM,
    FULL,
    HF,
    HF_PACKED,
    METHODS,
    PRUNE,
    QWEN_SHAPES,
    SHAPES,
    BenchArguments,
    check_budgets,
    check_positive,
    check_shared_layers,
    check_source,
)
from llava.eval.bench.measuring import Measured, Runner, inspect_case, measure
from llava.eval.bench.methods import (
    Bench,
    Case,
    Lengths,
    cases,
    questions,
    with_fixed_lengths,
)
from llava.eval.bench.prediction import CostModel, count_tokens
from llava.eval.bench.products import measure_products
from llava.eval.bench.qwen import QwenBench, random_qwen
from llava.eval.bench.qwen_costs import QwenCosts, ceiling
from llava.eval.bench.random_model import random_model
from llava.eval.bench.speed import measure_machine
from llava.eval.bench.table import Costs, check_picture, draw_picture, markdown, records
from llava.eval.sessions import processor_name
from llava.files import make_folder, write_json, write_text
from llava.model.builder import load_from_arguments
from llava.model.llava_arch import LlavaAccm
from llava.model.loading.parts import read_model
from llava.model.loading.placement import Placement, placement, uses_cuda_graphs
from llava.model.products.forms import PLAIN, Form, choose_forms, described
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.budget import resolve_budget


def measure_methods(args: BenchArguments) -> int:
    """Measures, prints the table, writes the files."""
    place = placement(args)
    forms = choose_forms(args.cpu_products, place.device, place.dtype, args.compile)
    _check(args, forms)
    if args.products:
        print(measure_products(_load(args), forms, args.rounds))
        return 0
    make_folder(Path(args.output))
    compared = compare_qwen(args) if args.shape in QWEN_SHAPES else compare(args, _load(args))
    report, found = compared
    _write(Path(args.output), report, found)
    return 0


def compare(args: BenchArguments, model: LlavaAccm) -> tuple[dict, list[Measured]]:
    """Measures the methods of the flags on a loaded model.

    Returns:
        The report for bench.json, and what was measured.
    """
    place = placement(args)
    has_graphs = uses_cuda_graphs(args, place)
    model = with_fixed_lengths(model, args.caption_length, args.compile, has_graphs)
    patches = model.count_tokens()
    budgets = [resolve_budget(one, None, patches).visual_token_num for one in args.budgets]
    lengths = Lengths(args.caption_length, args.answer_length, args.questions_per_image)
    runner = Bench(model, lengths, args.compile, args.cpu_products)
    todo = cases(args.methods, budgets, args.batch_sizes, patches)
    # A replayed graph hides its operations.
    counts = not (args.compile or has_graphs)
    return _measured(args, runner, todo, counts, partial(_cost_model, runner, budgets[0], lengths))


def compare_qwen(args: BenchArguments) -> tuple[dict, list[Measured]]:
    """Measures the methods on random weights of Qwen2.5-VL, without captions; see compare."""
    shape, place = QWEN_SHAPES[str(args.shape)], placement(args)
    patches = shape.grid[0] * shape.grid[1]
    budgets = [resolve_budget(one, None, patches).visual_token_num for one in args.budgets]
    model = random_qwen(shape, args.llm_layers, place, args.seed, args.share_layers)
    runner = QwenBench(model, shape, args.answer_length, args.cpu_products)
    todo = cases(args.methods, budgets, args.batch_sizes, patches)
    costs = QwenCosts(model, shape, runner.num_text, args.answer_length)
    report, found = _measured(args, runner, todo, True, lambda _: costs)
    return report | {"ceilings": ceiling(costs, todo)}, found


def _measured(
    args: BenchArguments,
    runner: Runner,
    todo: Sequence[Case],
    counts: bool,
    costs_of: Callable[[list[Measured]], Costs],
) -> tuple[dict, list[Measured]]:
    """Measures cases; returns the report for bench.json, and what was measured.

    Args:
        args: the flags.
        runner: of the cases.
        todo: the cases.
        counts: whether to count operations.
        costs_of: returns the cost model of inspected cases.
    """
    place = placement(args)
    forms = choose_forms(args.cpu_products, place.device, place.dtype, args.compile)
    with torch.inference_mode():
        packs = any(form.is_packed for form in forms.values())
        machine = measure_machine(place.device, place.dtype, packs)
        found = [inspect_case(runner, case, place.device, counts) for case in todo]
        costs = costs_of(found)
        measure(runner, found, args.rounds, args.warm_up, place.device)
    report = {
        "settings": asdict(args),
        "machine": _describe(place) | asdict(machine),
        "cpu_products": described(forms, args.cpu_products),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "cases": records(found, costs, machine),
    }
    return report, found


def _check(args: BenchArguments, forms: Mapping[str, Form]) -> None:
    """Refuses settings before minutes are spent.

    Args:
        args: the flags.
        forms: forms of the matrix products.

    Raises:
        UserError: a setting is wrong; the message names it.
    """
    check_source(args)
    check_shared_layers(args, forms["llm"].is_packed)
    _check_family(args)
    if args.products:
        _check_products(args)
    if HF_PACKED in args.methods and set(forms.values()) == {PLAIN}:
        raise UserError(
            f"{HF_PACKED} is {HF} here, where all products are plain: leave it out, or say "
            "--cpu-products packed on a CPU"
        )
    unknown = [method for method in args.methods if method not in METHODS]
    if unknown:
        raise UserError(f"there is no method {unknown[0]!r}; there are: {', '.join(METHODS)}")
    if args.compensation_name != CAPTIONS:
        raise UserError(
            "leave out --no-compensation and --compensation; name the methods: "
            "--methods hf full prune"
        )
    if args.device_map is not None:
        raise UserError("the bench works on one device: leave out --device-map")
    numbers = {
        "questions-per-image": args.questions_per_image,
        "caption-length": args.caption_length,
        "answer-length": args.answer_length,
        "rounds": args.rounds,
    } | {"batch-sizes": min(args.batch_sizes, default=0)}
    check_positive(numbers)
    check_budgets(args.budgets)
    if args.warm_up < 0 or not args.methods:
        raise UserError("--warm-up must not be negative, and --methods must name one")
    if args.picture and not args.products:
        check_picture()


def _check_family(args: BenchArguments) -> None:
    """Refuses what is not measured on Qwen2.5-VL.

    Raises:
        UserError: the message names the flags.
    """
    if args.shape is None:
        if not read_model(replace(args, **UNCOMPENSATED))[1].has_clip:
            raise UserError(
                "the bench measures checkpoints of LLaVA, and random weights of Qwen2.5-VL: say "
                f"--shape {' or '.join(QWEN_SHAPES)} in the place of --model-path"
            )
        return
    if args.shape not in QWEN_SHAPES:
        return
    has_captions = ACCM in args.methods or args.caption_length != BenchArguments.caption_length
    if has_captions or args.questions_per_image != 1 or args.compile or args.products:
        raise UserError(
            f"--shape {args.shape} has no captions and is not compiled, every question has its own "
            f"image, and --products measures LLaVA: say --methods {HF} {FULL} {PRUNE}, and leave "
            "out --caption-length, --compile, --questions-per-image and --products"
        )
    if uses_cuda_graphs(args, placement(args)):
        raise UserError(f"--shape {args.shape} is measured without CUDA graphs: say --eager")


# Flags that have an effect on methods, and none on --products.
_OF_METHODS = (
    *("methods", "budgets", "batch_sizes", "questions_per_image", "caption_length"),
    *("answer_length", "warm_up", "compile", "picture", "output"),
)


def _check_products(args: BenchArguments) -> None:
    """Refuses flags that have no effect with --products.

    Raises:
        UserError: such a flag is given; the message names it.
    """
    usual = BenchArguments()
    changed = [name for name in _OF_METHODS if getattr(args, name) != getattr(usual, name)]
    if changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UserError(f"{flags} has no effect with --products: leave one of the two out")
    if placement(args).device.type != "cpu":
        raise UserError("--products measures a CPU: say --device cpu")


def _load(args: BenchArguments) -> LlavaAccm:
    if args.shape is None:
        return load_from_arguments(args)
    shape, place = SHAPES[args.shape], placement(args)
    return random_model(shape, args.llm_layers, place, args.seed, args.share_layers)


def _cost_model(runner: Bench, budget: int, lengths: Lengths, found: list[Measured]) -> CostModel:
    """Returns the cost model, with the token counts of an answered sample."""
    answers = {one.case.method: one.answers[0] for one in found if one.answers}
    device = runner.model.tower.device
    for method in (PRUNE, ACCM):
        if method not in answers:
            case = Case(method, budget, 1)
            runner.prepare(case)
            answers[method] = runner.run(case, runner.pixels(case, 0), Stopwatch(device))[0]
    question = questions(1)[0].split("\n", 1)[0]
    counts = count_tokens(runner.model, question, answers[PRUNE], answers[ACCM])
    return CostModel(runner.model, counts, lengths)


def _describe(place: Placement) -> dict:
    """Returns a description of the machine."""
    dtype = str(place.dtype).removeprefix("torch.")
    if place.device.type == "cuda":
        return {"device": torch.cuda.get_device_name(place.device), "dtype": dtype}
    return {"device": processor_name(), "threads": torch.get_num_threads(), "dtype": dtype}


def _write(folder: Path, report: dict, found: list[Measured]) -> None:
    """Prints the table and writes all files."""
    settings, machine = report["settings"], report["machine"]
    what = settings["shape"] or settings["model_path"]
    layers = settings["llm_layers"]
    title = f"{what}{f', {layers} layers' if layers else ''}, {machine['dtype']}"
    title += f", {machine['device']}" + (
        ", layers share weights" if settings["share_layers"] else ""
    )
    text = markdown(report["cases"])
    if settings["share_layers"]:
        text += "\nThe layers of the LLM share the weights of one.\n"
    print(text)
    print(
        f"{machine['operations'] / 1e9:,.0f} GFLOP/s in a large matrix product, "
        f"{machine['bandwidth'] / 1e9:,.1f} GB/s of weights read: what the predictions go by"
    )
    for case, times in report.get("ceilings", {}).items():
        print(f"{case}: {times:.2f} times fewer operations than with all tokens")
    for one in found:
        if one.is_noisy:
            print(f"too noisy to rely on: {one.case} ({one.spread:.0%})", file=sys.stderr)
    write_json(folder / "bench.json", report)
    write_text(folder / "bench.md", text)
    if settings["picture"]:
        draw_picture(report["cases"], title, folder / "bench.png")
    print(
        f"written: {folder}/bench.json, bench.md" + (", bench.png" if settings["picture"] else "")
    )
