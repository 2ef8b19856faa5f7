"""Measures the questions per second of a run, and how busy the GPU is during it."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from PIL import Image

from llava.eval.bench.methods import questions, with_fixed_lengths
from llava.eval.caches import QuestionMemory
from llava.eval.engine import Clock, Request, answer_units, units_by_length

if TYPE_CHECKING:
    from scripts.gpu.parts import Check

IMAGES, SIDES, BATCH_SIZES = 300, (640, 480), (16,)  # MMVP has as many images


def measure_throughput(check: Check) -> dict:
    """Answers a question about each of 300 images of noise, from files in memory."""
    number = 4 if check.rehearse else IMAGES
    args = check.arguments()
    has_graphs = check.place.device.type == "cuda"
    model = with_fixed_lengths(check.model(args.shape), 15, False, has_graphs)
    files = [_image_file(seed) for seed in range(number)]
    found = {}
    for batch_size in BATCH_SIZES:
        for method, answering in (("accm", model), ("prune", model.without_captions())):
            requests = [
                Request(id=i, image=file, question=question, visual_token_num=36, max_new_tokens=4)
                for i, (file, question) in enumerate(zip(files, questions(number)))
            ]
            units = units_by_length(requests, batch_size)
            warm = units[: max(1, 48 // batch_size)]
            list(answer_units(answering, warm, Clock()))
            clock, busy = Clock(), []
            with torch.inference_mode(), _gpu_busy(busy):
                texts = QuestionMemory([])
                outcomes = list(answer_units(answering, units, clock, None, texts))
            name = f"{method}, batch {batch_size}"
            found[name] = {
                "questions_per_second": number / clock.wall,
                "gpu_busy": statistics.mean(busy) if busy else None,
                "failed": sum(outcome.answer is None for outcome in outcomes),
                "wall": clock.wall,
                "in_model": clock.model,
                "cpus": os.cpu_count(),
            }
            print(name, found[name], flush=True)
    return {"rows": found}


def _image_file(seed: int) -> bytes:
    """Returns a JPEG of coarse noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (SIDES[1] // 16, SIDES[0] // 16, 3), generator=generator)
    image = Image.fromarray(coarse.to(torch.uint8).numpy()).resize(SIDES)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


@contextmanager
def _gpu_busy(found: list[float]) -> Iterator[None]:
    """Adds the shares of the time in which the GPU worked, by nvidia-smi."""
    if not torch.cuda.is_available():
        yield
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    sampler = subprocess.Popen([*command, "-lms", "100"], stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)  # it starts
    start = time.monotonic()
    yield
    seconds = time.monotonic() - start
    sampler.terminate()
    values = [float(line) / 100 for line in sampler.communicate()[0].split()]
    # The first samples are from before the run; each covers the last sixth of a second.
    found += values[-max(1, int(seconds / 0.1)) :]
