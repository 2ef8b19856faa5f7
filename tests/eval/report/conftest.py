"""Made-up runs: result files with their answers, journals and images."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from llava.eval.benchmarks.question import Question

CAPTIONS = ["a dog <b>runs</b>", "a cat sleeps", "an empty room"]


class Workshop:
    """Makes result files in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.data_dir = folder / "data"
        self.data_dir.mkdir()

    def result(self, name, scores, method="accm", tokens=36, benchmark="pope", **changes):
        """Writes a result file; scores are of the questions q1, q2, ... of the benchmark."""
        if not isinstance(scores, dict):
            scores = {f"q{i}": score for i, score in enumerate(scores, start=1)}
        settings = dict(model_id="llava-v1.5-7b", method=method, visual_token_num=tokens)
        result = {
            "benchmark": benchmark,
            "main_number": {"name": "F1", "value": sum(scores.values()) / len(scores)},
            "questions": scores,
            "data_dir": str(self.data_dir),
            "answers_file": str(self.folder / f"{name}.jsonl"),
            "settings": settings | {"num_patches": 576},
        }
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(result | changes))
        return path

    def journal(self, name, texts, kept=None, captions=None, tail=""):
        """Writes the journal of a run; texts are the answers to q1, q2, ..."""
        run = self.folder / f"{name}.jsonl.run"
        run.mkdir()
        trace = {"kept_idx": kept, "captions": captions, "chosen_index": 1 if captions else None}
        trace["selector_scores"] = [0.25, 0.75, 0.5] if captions else None
        lines = [
            {"key": f"q{i}", "record": {"question_id": i, "text": text}, "trace": trace}
            for i, text in enumerate(texts, start=1)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run / "answers-00000.jsonl").write_text(text + tail)

    def questions(self, count):
        """A reader of so many questions about one orange picture."""
        Image.new("RGB", (48, 24), (250, 120, 0)).save(self.data_dir / "1.png")

        def read(benchmark, data_dir):
            return [
                Question(
                    key=f"q{i}",
                    question_id=i,
                    image=data_dir / "1.png",
                    prompt=f"Is there a thing no. {i}?\nOne word & no more.",
                    tower_question=f"Is there a thing no. {i}?",
                    max_new_tokens=8,
                )
                for i in range(1, count + 1)
            ]

        return read


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


@pytest.fixture
def three_runs(workshop):
    """Full, floor, and ACCM in between, over eight questions of POPE."""
    return [
        workshop.result("full", [1, 1, 1, 1, 1, 1, 0, 0], "full", None),
        workshop.result("floor", [1, 0, 1, 0, 0, 0, 0, 0], "no image", None),
        workshop.result("accm", [1, 0, 1, 1, 0, 1, 0, 1]),
    ]


@pytest.fixture
def captions():
    return CAPTIONS
