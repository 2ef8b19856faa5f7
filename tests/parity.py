"""The parity pack: what must not change while the code is moved about.

7 mini benchmarks x 40 questions, answered in every way that a run can have (all tokens, pruned and
with captions at three budgets, without an image), in float32 on a CPU in one process. Texts, kept
tokens and captions are compared as hashes, which hold on every machine; the selector's scores as
numbers, within 1e-5. Two checkouts on one machine must give the same files byte by byte.

    python tests/parity.py answer OUT           answers below the folder OUT (2 minutes)
    python tests/parity.py record OUT           writes tests/data/parity.json of the answers in OUT
    python tests/parity.py check OUT            compares the answers in OUT with it
    python tests/parity.py same OUT OTHER       compares two folders, byte by byte
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from llava.eval.answer import read_run
from llava.eval.benchmarks.registry import BENCHMARKS, data_folder
from llava.eval.caches import Shared
from llava.eval.run import answer_questions
from llava.eval.sweep import SweepArguments, choose_configurations
from llava.mini.benchmarks import write_benchmarks

ROOT = Path(__file__).parents[1]
PACK = Path(__file__).with_name("data") / "parity.json"
MODEL = ROOT / "checkpoints" / "accm-mini"
BUDGETS = ("9", "18", "36")
METHODS = ("full", "prune", "accm", "no-image")
QUESTIONS = 40  # of each benchmark
TOLERANCE = 1e-5
SEED = 5
SIZES = {"mme": 6, "mmbench": 40, "pope": 7, "mmvp": 20, "seed": 40, "gqa": 40, "flickr": 40}


def answer(out: Path, questions: int = QUESTIONS) -> None:
    """Draws the benchmarks and answers the first questions of each, below ``out``."""
    data = out / "data"
    if not data.exists():
        data.mkdir(parents=True)
        write_benchmarks(data, seed=SEED, split="test", sizes=SIZES)
    args = SweepArguments(
        model_path=str(MODEL),
        methods=list(METHODS),
        budgets=list(BUDGETS),
        device="cpu",
        dtype="float32",
        cpu_products="plain",
    )
    shared = Shared(compensation=True)
    for benchmark in BENCHMARKS:
        folder = data_folder(benchmark, None, str(data))
        for configuration in choose_configurations(args):
            answers_file = out / "runs" / benchmark / f"{configuration.name}.jsonl"
            run = read_run(benchmark, folder, answers_file, args.model_path, limit=questions)
            if answer_questions(run, configuration.arguments(args), shared) != 0:
                raise SystemExit(f"{answers_file}: not all questions were answered")


def pack(out: Path) -> dict[str, dict]:
    """Returns what is compared of each run below ``out``, question by question."""
    return {
        f"{path.parent.name}/{path.stem}": _run(path)
        for path in sorted((out / "runs").glob("*/*.jsonl"))
    }


def _run(answers_file: Path) -> dict[str, list]:
    """Returns a hash and the selector's scores of each question of a run, in its order."""
    journal = answers_file.with_name(answers_file.name + ".run") / "answers-0.jsonl"
    lines = [json.loads(line) for line in journal.open(encoding="utf-8")]
    order = answers_file.read_text("utf-8").splitlines()
    lines.sort(key=lambda line: order.index(json.dumps(line["record"], ensure_ascii=False)))
    traces = [line["trace"] for line in lines]
    decided = ("kept_idx", "captions", "chosen_index")
    return {
        "questions": [
            _hash([line["key"], record, [trace[part] for part in decided]])
            for line, record, trace in zip(lines, order, traces)
        ],
        "scores": [[round(s, 6) for s in trace["selector_scores"] or ()] for trace in traces],
    }


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:10]


def differences(wanted: dict[str, dict], found: dict[str, dict]) -> list[str]:
    """Returns what differs, as "benchmark/run, question n"; fewer questions may have been asked."""
    differing = [f"{run} is only in one of them" for run in sorted(wanted.keys() ^ found.keys())]
    for run in sorted(wanted.keys() & found.keys()):
        pairs = zip(*(zip(one[run]["questions"], one[run]["scores"]) for one in (wanted, found)))
        differing += [
            f"{run}, question {number}"
            for number, ((was, scores), (now, new_scores)) in enumerate(pairs, 1)
            if was != now or any(abs(a - b) > TOLERANCE for a, b in zip(scores, new_scores))
        ]
    return differing


def different_files(one: Path, other: Path) -> list[str]:
    """Returns the answers files and journals that are not the same byte by byte."""
    names = {path.relative_to(out) for out in (one, other) for path in out.glob("runs/*/*.jsonl")}
    names |= {name.with_name(name.name + ".run") / "answers-0.jsonl" for name in names}
    return [
        str(name)
        for name in sorted(names)
        if not all((out / name).is_file() for out in (one, other))
        or (one / name).read_bytes() != (other / name).read_bytes()
    ]


def main(words: list[str]) -> int:
    """Runs one of the four commands of this module's first lines."""
    match words:
        case ["answer", out]:
            answer(Path(out))
            return 0
        case ["record", out]:
            runs = (f"{json.dumps(n)}: {json.dumps(run)}" for n, run in pack(Path(out)).items())
            PACK.write_text("{\n" + ",\n".join(runs) + "\n}\n", "utf-8")
            return 0
        case ["check", out]:
            found = differences(json.loads(PACK.read_text("utf-8")), pack(Path(out)))
        case ["same", one, other]:
            found = different_files(Path(one), Path(other))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    print("\n".join(found) or "no difference")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
