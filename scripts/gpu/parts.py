"""The parts of the check, by name, in the order in which they are run."""

from __future__ import annotations

import cProfile
import io
import pstats
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from llava.budgets import read_budget
from llava.eval.bench.arguments import QWEN_SHAPES, SHAPES, BenchArguments
from llava.eval.bench.comparison import compare, compare_qwen
from llava.eval.bench.methods import Bench, Case, Lengths, with_fixed_lengths
from llava.eval.bench.random_model import random_model
from llava.eval.bench.table import markdown
from llava.model.llava_arch import LlavaAccm
from llava.model.loading.placement import Placement, placement
from llava.model.stopwatch import Stopwatch
from scripts.gpu.throughput import measure_throughput
from scripts.gpu.training import measure_training

PROFILED = 45  # kernels in the table of a profile
# The small shapes that stand for the real ones in a rehearsal; for all others it is "mini".
STAND_INS = {"llava-next-7b": "mini-next", "qwen2.5-vl-3b": "qwen-tiny"}


class Check:
    """A run of the check.

    Args:
        output: folder for its files.
        rehearse: whether small shapes on a CPU stand for the real ones.
    """

    def __init__(self, output: Path, rehearse: bool) -> None:
        self.output = output
        self.rehearse = rehearse
        self._shape = ""
        self._model: LlavaAccm | None = None

    @property
    def place(self) -> Placement:
        """The device and dtype of the models."""
        return placement(self.arguments())

    def arguments(self, **flags: object) -> BenchArguments:
        """Returns flags of the bench: 5 rounds of LLaVA-1.5-7B, unless others are given."""
        usual = {"device": "cuda", "shape": "llava-1.5-7b", "picture": False}
        # Captions of other lengths need other graphs, each recorded at its second use.
        given = usual | {"rounds": 5, "warm_up": 4} | flags
        if self.rehearse:
            shape = STAND_INS.get(str(given["shape"]), "mini")
            given |= {"device": "cpu", "shape": shape, "answer_length": 2}
            given |= {"rounds": 1, "warm_up": 0}
        return BenchArguments(**given)

    def model(self, shape: str) -> LlavaAccm:
        """Returns the model with random weights of a shape; only the last one stays in memory."""
        if shape != self._shape:
            self._model = None
            self._model = random_model(SHAPES[shape], None, self.place, seed=0)
            self._shape = shape
        return self._model

    def bench(self, **flags: object) -> dict:
        """Measures methods side by side."""
        args = self.arguments(**flags)
        if args.shape in QWEN_SHAPES:
            self._model, self._shape = None, ""  # Qwen's own takes its place in memory
            report, _ = compare_qwen(args)
        else:
            report, _ = compare(args, self.model(args.shape))
        print(markdown(report["cases"]), flush=True)
        if not self.rehearse:
            torch.cuda.empty_cache()
        return report


def run_tests(check: Check) -> dict:
    """Runs the tests that need a GPU; a rehearsal only collects them."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "tests/gpu",
        "-p",
        "no:cacheprovider",
    ]
    command += ["--collect-only"] if check.rehearse else ["--tb=short"]
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout + done.stderr
    print(text[-6000:], flush=True)
    (check.output / "tests.txt").write_text(text, "utf-8")
    summary = done.stdout.strip().splitlines()[-1:]
    return {"status": done.returncode, "summary": summary} | (
        {"error": text[-4000:]} if done.returncode else {}
    )


def run_bench(check: Check) -> dict:
    """Measures K = 36, answers of 4 tokens, batches of 1 and 16."""
    return check.bench(batch_sizes=[1, 16])


def run_answers(check: Check) -> dict:
    """Measures answers of 128 tokens."""
    methods = ["hf", "prune", "accm"]
    return check.bench(answer_length=128, methods=methods, rounds=3, warm_up=2)


def run_shared(check: Check) -> dict:
    """Measures 8 questions about an image."""
    return check.bench(questions_per_image=8, batch_sizes=[8], rounds=3, warm_up=3)


def run_budgets(check: Check) -> dict:
    """Measures K = 144, without hf, which has no K."""
    budget = 36 if check.rehearse else 144
    how = {"methods": ["prune", "accm"], "rounds": 3, "warm_up": 3}
    return check.bench(budgets=[budget], batch_sizes=[1, 16], **how)


def run_compiled(check: Check) -> dict:
    """Measures the LLM compiled too."""
    return check.bench(compile=True, methods=["prune", "accm"])


def run_13b(check: Check) -> dict:
    """Measures LLaVA-1.5-13B."""
    how = {"methods": ["hf", "prune", "accm"], "rounds": 3, "warm_up": 3}
    return check.bench(shape="llava-1.5-13b", **how)


def run_next(check: Check) -> dict:
    """Measures LLaVA-NeXT-7B with five views: a ninth of 2,880 tokens."""
    how = {"methods": ["hf", "prune", "accm"], "rounds": 3, "warm_up": 3}
    return check.bench(shape="llava-next-7b", budgets=[read_budget("1/9")], **how)


def run_qwen(check: Check) -> dict:
    """Measures Qwen2.5-VL-3B, a ninth of 1,296 tokens; its bench has no CUDA graphs."""
    how = {"methods": ["hf", "prune"], "rounds": 3, "warm_up": 3, "eager": True}
    return check.bench(shape="qwen2.5-vl-3b", budgets=[read_budget("1/9")], **how)


def run_profile(check: Check) -> dict:
    """Profiles the kernels of accm at batch 1."""
    model = check.model(check.arguments().shape)
    model = with_fixed_lengths(model, 15, compiled=False, cuda_graphs=not check.rehearse)
    case = Case("accm", 36, 1)
    table = _profile(Bench(model, Lengths(15, 4, 1), graphs=False), case, check.place.device)
    print(case, table, sep="\n", flush=True)
    return {"tables": {str(case): table}}


def _profile(bench: Bench, case: Case, device: torch.device) -> str:
    """Returns the kernels that take most time, and the stages' times."""
    bench.prepare(case)
    bench.forget()
    with torch.inference_mode():
        for seed in range(3):
            bench.run(case, bench.pixels(case, seed), Stopwatch(device))
        python = cProfile.Profile()
        python.runcall(bench.run, case, bench.pixels(case, 3), Stopwatch(device))
        with torch.profiler.profile() as profile:
            watch = Stopwatch(device)
            bench.run(case, bench.pixels(case, 3), watch)
            stages = {name: f"{1000 * s:.2f}" for name, s in watch.seconds().items()}
    key = "cpu_time_total" if device.type == "cpu" else "device_time_total"
    found = profile.key_averages().table(sort_by=key, row_limit=PROFILED, max_name_column_width=60)
    text = io.StringIO()
    pstats.Stats(python, stream=text).sort_stats("tottime").print_stats(PROFILED)
    return f"ms by stage: {stages}\n{found}\n{text.getvalue()}"


PARTS: dict[str, Callable[[Check], dict]] = {
    "tests": run_tests,
    "bench": run_bench,
    "profile": run_profile,
    "answers": run_answers,
    "shared": run_shared,
    "budgets": run_budgets,
    "train": measure_training,
    "throughput": measure_throughput,
    "compiled": run_compiled,
    "llava-13b": run_13b,
    "llava-next-7b": run_next,
    "qwen2.5-vl-3b": run_qwen,
}
