"""Getting the data right: ``python -m llava.benchmarks download|verify NAME...|all``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from llava.arguments import flag
from llava.benchmarks.catalog import KNOWN, Benchmark
from llava.benchmarks.fetch import fetch_benchmark
from llava.benchmarks.sources import ByHand
from llava.benchmarks.verify import Finding, verify_benchmark
from llava.download.errors import free_gigabytes, read_errors
from llava.download.line import USUAL, Network
from llava.errors import UserError
from llava.eval.benchmarks.registry import DATA_ROOT, data_folder
from llava.utils.cli import SOME_FAILED, run_words_command

BY_HAND = 3  # exit status where nothing failed and something has to be done by hand


@dataclass
class VerifyArguments:
    """Flags of verify; the names come before them."""

    data_root: str = flag("Folder with the data of all benchmarks.", DATA_ROOT)
    decode: bool = flag("Open every picture, as a run does; --no-decode only looks for them.", True)


@dataclass
class DownloadArguments:
    """Flags of download; the names come before them."""

    data_root: str = flag("Folder with the data of all benchmarks.", DATA_ROOT)
    accept_terms: bool = flag("You agree to the terms that are printed (MME has such).", False)
    dry_run: bool = flag("Say what would be fetched, and fetch nothing.", False)


def _download(
    known: Mapping[str, Benchmark],
    network: Network,
    names: Sequence[str],
    args: DownloadArguments,
) -> int:
    places = _places(known, names, args.data_root)
    for benchmark, folder in places:
        print(_plan(benchmark, folder))
    total = sum(benchmark.gigabytes for benchmark, _ in places)
    questions = sum(benchmark.asked for benchmark, _ in places)
    free = free_gigabytes(Path(args.data_root))
    print(
        f"about {total:.1f} GB and {questions:,} questions in all, {free:.1f} GB free", flush=True
    )
    if args.dry_run:
        return 0
    return _report(_fetch_one(*place, args.accept_terms, network) for place in places)


def _fetch_one(benchmark: Benchmark, folder: Path, agreed: bool, network: Network) -> Finding:
    """Returns what is there then; one that cannot be fetched does not keep the others from it."""
    if benchmark.terms is not None and not agreed:
        found = verify_benchmark(benchmark, folder)
        how = (
            f"{benchmark.terms}. If you agree: the same command with --accept-terms; else lay the "
            f"data into {folder} yourself, from {benchmark.home}"
        )
        return found if found.is_whole else replace(found, problem=None, by_hand=how)
    try:
        return fetch_benchmark(benchmark, folder, network)
    except UserError as error:
        return Finding(benchmark, folder, problem=str(error))


def _verify(known: Mapping[str, Benchmark], names: Sequence[str], args: VerifyArguments) -> int:
    places = _places(known, names, args.data_root)
    return _report(
        verify_benchmark(benchmark, folder, args.decode, any_edition=True)
        for benchmark, folder in places
    )


def _report(findings: Iterable[Finding]) -> int:
    """Prints findings as they come; returns the exit status."""
    failed = by_hand = False
    for found in findings:
        print(found, flush=True)
        failed |= found.problem is not None
        by_hand |= found.by_hand is not None
    return SOME_FAILED if failed else BY_HAND if by_hand else 0


def _places(
    known: Mapping[str, Benchmark], names: Sequence[str], data_root: str
) -> list[tuple[Benchmark, Path]]:
    """Returns the benchmarks that were named, each once, and where they lie."""
    if not names:
        raise UserError(f"say which: {', '.join(known)}, or all")
    wanted = [one for name in names for one in (known if name == "all" else [name])]
    for name in wanted:
        if name not in known:
            raise UserError(
                f"there is no benchmark {name!r}; there are: {', '.join(known)}, or all"
            )
    with read_errors(Path(data_root)):
        return [(known[n], data_folder(n, None, data_root)) for n in dict.fromkeys(wanted)]


def _plan(benchmark: Benchmark, folder: Path) -> str:
    lines = [
        f"{benchmark.title} -> {folder}: about {benchmark.gigabytes:g} GB, from {benchmark.home}",
        f"    about {benchmark.asked:,} questions",
        f"    licence: {benchmark.licence}",
    ]
    if benchmark.note:
        lines.append(f"    {benchmark.note}")
    if benchmark.terms is not None:
        lines.append(f"    terms: {benchmark.terms}")
    for source in benchmark.sources:
        if isinstance(source, ByHand):
            lines.append(f"    by hand: {source.how.format(folder=folder)}")
    return "\n".join(lines)


def main(
    argv: Sequence[str] | None = None,
    known: Mapping[str, Benchmark] = KNOWN,
    network: Network = USUAL,
) -> int:
    """Runs the command; returns the exit status.

    Args:
        argv: the command line; None takes the process's.
        known: the benchmarks that there are.
        network: as of fetch_benchmark.
    """
    commands = {
        "download": (DownloadArguments, partial(_download, known, network)),
        "verify": (VerifyArguments, partial(_verify, known)),
    }
    return run_words_command(commands, "llava.benchmarks", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
