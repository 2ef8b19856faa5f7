"""The ways in which a sweep answers: what chooses the tokens, how many, and what comes back."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional

from llava.arguments import AskArguments, flag, list_flag
from llava.budgets import AskedBudget, count_kept, file_word, read_budget
from llava.compensations import CAPTIONS, GRAPHS, NOTHING, terms_of
from llava.errors import UserError
from llava.eval.benchmarks.registry import BENCHMARKS, DATA_ROOT, LIMIT_HELP
from llava.method import ALL_TOKENS, DEFAULT_PRUNER, NAMED, NO_TOKENS

if TYPE_CHECKING:
    from llava.eval.run import Run
    from llava.model.backbones.registry import Sizes
    from llava.model.multimodal_encoder.visual_tokens import Needs

METHODS = ("full", *NAMED, "no-image")
DEFAULT_METHODS = ("full", "prune", "accm")
DEFAULT_BUDGETS = ("1/4", "1/8", "1/16")
ALL = "all"
# These two are kept under the settings of ACCM's pruner, so that a sweep continues what one before
# --pruners has begun.
_WITHOUT_BUDGET = {ALL_TOKENS: "full", NO_TOKENS: "no-image"}


@dataclass
class SweepArguments(AskArguments):
    """Flags of the command."""

    benchmarks: Optional[List[str]] = flag("Which. Default: all.", choices=BENCHMARKS)
    budgets: Optional[List[str]] = flag(
        "Visual tokens that all but full and no-image keep: numbers, or shares of all tokens as "
        f"1/4 or 11%. Default: {' '.join(DEFAULT_BUDGETS)}."
    )
    methods: Optional[List[str]] = flag(
        "full (all tokens), prune, accm (pruned, with captions), accm+ (pruner mmtok, compensation "
        "merge), no-image (the floor). Default: "
        f"{' '.join(DEFAULT_METHODS)}; with --pruners none.",
        choices=METHODS,
    )
    pruners: Optional[List[str]] = flag(
        f"Pruners to compare beside the methods, by name; {ALL} takes every one. Options follow a "
        "name as NAME:OPTION=VALUE,OPTION=VALUE. none is full, zero is no-image, accm is prune or, "
        "with its compensation, accm."
    )
    compensations: Optional[List[str]] = flag(
        f"What each of --pruners gives back for the dropped tokens, in turn. Default: {NOTHING}."
    )
    costs: bool = flag(
        "Measure, when all is answered, the time by stage, the operations and the peak memory of "
        "each method on a few questions, for the report.",
        False,
    )
    visual_token_num: Optional[AskedBudget] = flag("A sweep has --budgets instead.")
    pruner: str = flag("A sweep has --pruners instead.", DEFAULT_PRUNER)
    pruner_options: List[str] = list_flag("A sweep has --pruners NAME:OPTION=VALUE instead.", [])
    no_image: bool = flag("A sweep has --methods no-image instead.", False)
    compensation: str = flag("A sweep has --compensations instead.", CAPTIONS, off=NOTHING)
    data_root: str = flag("Folder with the data of all benchmarks.", DATA_ROOT)
    output_dir: str = flag("Where answers and scores go.", "outputs/sweep")
    report: Optional[str] = flag("Folder for a report of all runs: HTML, Markdown, CSV.")
    allow_missing: bool = flag("Count questions without an answer as wrong.", False)
    limit: Optional[int] = flag(LIMIT_HELP)


@dataclass(frozen=True)
class Configuration:
    """One way to answer.

    Attributes:
        method: one of METHODS, or PRUNER, or PRUNER+COMPENSATION.
        tokens: the budget, a number or a share; all visual tokens if nothing is pruned.
        pruner: chooses the tokens.
        compensation: what is given back for the others.
        options: settings of the pruner, NAME=VALUE.
    """

    method: str
    tokens: AskedBudget
    pruner: str = DEFAULT_PRUNER
    compensation: str = NOTHING
    options: tuple[str, ...] = ()

    @property
    def has_budget(self) -> bool:
        """Whether it keeps some tokens, but not all."""
        return self.method not in _WITHOUT_BUDGET.values()

    @property
    def name(self) -> str:
        """The name of the configuration in file names."""
        return f"{self.method}-{file_word(self.tokens)}" if self.has_budget else self.method

    def arguments(self, args: SweepArguments) -> SweepArguments:
        """Returns the flags that the single command would have for it."""
        from llava.model.token_pruning.registry import find_pruner

        known, terms = find_pruner(self.pruner).option_names, terms_of(self.compensation)
        return dataclasses.replace(
            args,
            visual_token_num=self.tokens,
            pruner=self.pruner,
            pruner_options=list(self.options),
            compensation=self.compensation,
            silence=args.silence if not terms or CAPTIONS in terms else None,
            oracle=args.oracle if "oracle" in terms else None,
            compensation_options=args.compensation_options if GRAPHS in terms else [],
            no_image=self.method == "no-image",
            text_token_num=args.text_token_num if "text_token_num" in known else None,
            view_split=args.view_split if self.has_budget else None,
        )

    def of(self, run: Run) -> Run:
        """Returns a benchmark's run, whose answers file is only the folder, of this way."""
        limit = "" if run.limit is None else f"-limit{run.limit}"
        name = f"{run.model_id}-{self.name}{limit}.jsonl"
        return dataclasses.replace(
            run, answers_file=run.answers_file / name, elsewhere="name another --output-dir"
        )


def choose_configurations(args: SweepArguments, says: bool = True) -> list[Configuration]:
    """Returns the configurations of the flags, each once: --methods, then those of --pruners.

    Of --pruners, those whose pruner cannot meet a budget are left out; a line each says so if it
    is to be said here.

    Raises:
        UserError: no such method, pruner or compensation, an impossible or unused budget, or a
            part of the model is missing.
    """
    from llava.model.backbones.registry import sizes_of
    from llava.model.token_pruning.registry import check_views

    default = DEFAULT_METHODS if args.pruners is None else ()
    methods = choose("method", args.methods, METHODS, default)
    pairs = _pairs(args)
    if args.compensation_options and not any(GRAPHS in terms_of(back) for _, back in pairs):
        raise UserError(f"--compensation-options has no effect without --compensations {GRAPHS}")
    _refuse_idle_flags(args, methods, [pruner for (pruner, _), _ in pairs])
    used = {NOTHING, *(compensation for _, compensation in pairs)}
    used |= {NAMED[method][1] for method in methods if method in NAMED}
    for compensation in used:
        sizes = sizes_of(dataclasses.replace(args, compensation=compensation))
    words = DEFAULT_BUDGETS if args.budgets is None else args.budgets
    budgets = list(dict.fromkeys(_budget_of(word, sizes) for word in words))
    found = []
    for method in methods:
        parts = NAMED.get(method)
        for tokens in [sizes.num_patches] if parts is None else budgets:
            found.append(Configuration(method, tokens, *(parts or ())))
            check_views(found[-1].arguments(args).method, sizes.has_views)
    possible, left_out = _possible(pairs, budgets, sizes, args)
    configurations = list(dict.fromkeys([*found, *possible]))
    if not configurations:
        raise UserError(left_out[0])
    for line in left_out if says else ():
        print(line, file=sys.stderr)
    return configurations


def _budget_of(word: str, sizes: Sizes) -> AskedBudget:
    """Returns the budget of a word: a number, or a share where it means another for each image.

    Raises:
        UserError: see parse_budget.
    """
    tokens = parse_budget(word, sizes.num_patches)
    return read_budget(word) if sizes.images_differ else tokens


def parse_budget(word: str, num_patches: int) -> int:
    """Returns a budget as a number of tokens; see llava.budgets.

    Raises:
        UserError: it is neither a number nor a share, or not from 1 to num_patches - 1.
    """
    tokens = 0
    with suppress(ValueError):
        tokens = count_kept(read_budget(word), num_patches)
    if not 0 < tokens < num_patches:
        raise UserError(
            f"--budgets: {word!r} is no budget; give numbers from 1 to {num_patches - 1}, or "
            f"shares of the {num_patches} tokens of an image as 1/4 (--methods full takes them all)"
        )
    return tokens


def needs_of(configurations: Iterable[Configuration]) -> Needs:
    """Returns what the configurations together read of an image beside its features."""
    from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE
    from llava.model.token_pruning.registry import find_pruner

    needs = OF_IMAGE
    for pruner in {configuration.pruner for configuration in configurations}:
        needs |= find_pruner(pruner).needs
    return needs


def choose(
    what: str, wanted: Sequence[str] | None, known: Sequence[str], default: Sequence[str]
) -> list[str]:
    """Returns the chosen values, each once, in the order of the known ones."""
    names = default if wanted is None else wanted
    for name in names:
        if name not in known:
            raise UserError(f"there is no {what} {name!r}; name some of: {', '.join(known)}")
    return [name for name in known if name in names]


_Chosen = tuple[str, tuple[str, ...]]  # a pruner, and its options NAME=VALUE


def _pairs(args: SweepArguments) -> list[tuple[_Chosen, str]]:
    """Returns the pruners of the flags, each with its compensations."""
    from llava.model.token_pruning.registry import PRUNERS, find_pruner

    if args.pruners is None:
        if args.compensations is not None:
            raise UserError("--compensations has no effect without --pruners: give both")
        return []
    words = [name for word in args.pruners for name in (PRUNERS if word == ALL else [word])]
    chosen: list[_Chosen] = []
    for word in words:
        name, _, options = word.partition(":")
        chosen.append((find_pruner(name).name, tuple(filter(None, options.split(",")))))
    given = [NOTHING] if args.compensations is None else args.compensations
    compensations = []
    for word in dict.fromkeys(given):
        single = AskArguments(compensation=word)
        single.check_compensation()
        compensations.append(single.compensation_name)
    return [
        (one, compensation)
        for one in dict.fromkeys(chosen)
        for compensation in ([NOTHING] if one[0] in _WITHOUT_BUDGET else compensations)
    ]


def _possible(
    pairs: Sequence[tuple[_Chosen, str]],
    budgets: Sequence[AskedBudget],
    sizes: Sizes,
    args: SweepArguments,
) -> tuple[list[Configuration], list[str]]:
    """Returns the configurations of pruners, and why others are left out."""
    from llava.model.token_pruning.registry import check_views, pruning_of

    num_patches, found, left_out = sizes.num_patches, [], []
    for chosen, compensation in pairs:
        for tokens in [num_patches] if chosen[0] in _WITHOUT_BUDGET else budgets:
            one = _named(chosen, compensation, tokens)
            method = one.arguments(args).method
            try:
                check_views(method, sizes.has_views)
                pruning_of(method, num_patches, nearest=False, num_layers=sizes.num_layers)
            except UserError as error:
                left_out.append(f"{one.name} is left out: {error}")
            else:
                found.append(one)
    return found, left_out


def _named(chosen: _Chosen, compensation: str, tokens: AskedBudget) -> Configuration:
    """Returns the configuration of a pruner and a compensation, under the method's name if any."""
    pruner, options = chosen
    if pruner in _WITHOUT_BUDGET:
        return Configuration(_WITHOUT_BUDGET[pruner], tokens)
    for method, parts in NAMED.items():
        if parts == (pruner, compensation) and not options:
            return Configuration(method, tokens, *parts)
    method = ",".join((pruner, *options))
    method = method if compensation == NOTHING else f"{method}+{compensation}"
    return Configuration(method, tokens, pruner, compensation, options)


def _refuse_idle_flags(
    args: SweepArguments, methods: Sequence[str], pruners: Sequence[str]
) -> None:
    """Refuses pruning flags if no method prunes."""
    if set(NAMED) & set(methods) or set(pruners) - set(_WITHOUT_BUDGET):
        return
    named = f"--methods {' '.join(methods)}" if methods else f"--pruners {' '.join(pruners)}"
    for name in ("budgets", "text_token_num", "text_selection", "view_split"):
        if getattr(args, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')} has no effect with {named}, which prune nothing: "
                "leave it out, or name prune or accm too"
            )
