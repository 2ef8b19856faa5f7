"""The homes of the benchmarks, with tiny benchmarks in them, on loopback."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llava.benchmarks.catalog import KNOWN
from llava.benchmarks.sources import AskedImages, HubFiles, WebFile, ZipParts
from llava.benchmarks.verify import asked_images
from llava.eval.benchmarks.registry import BENCHMARKS, data_folder, reader
from llava.mini.benchmarks import write_benchmarks

SIZES = {"mme": 1, "mmbench": 2, "pope": 2, "mmvp": 2, "seed": 2, "gqa": 1, "flickr": 3}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Seven tiny benchmarks in their native layouts."""
    root = tmp_path_factory.mktemp("tiny")
    write_benchmarks(root, 0, "test", SIZES)
    flickr = root / "Flickr"
    images = sorted(path.name for path in (flickr / "flickr30k-images").iterdir())
    for name, key in (("questions", "Describe it."), ("annotations", "a drawing")):
        lines = [
            json.dumps({"question_id": n, "image": image, "text": key})
            for n, image in enumerate(images)
        ]
        (flickr / f"{name}-3k.jsonl").write_text("\n".join(lines) + "\n")
    # One task with its questions and images apart, as five are in the release.
    scene = root / "MME/MME_Benchmark_release_version/scene"
    for kind, below in (("txt", "questions_answers_YN"), ("jpg", "images")):
        (scene / below).mkdir()
        for path in scene.glob(f"*.{kind}"):
            path.rename(scene / below / path.name)
    return root


def zipped(folder: Path, top: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    """A zip of all that is in a folder."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{top}{path.relative_to(folder).as_posix()}")
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return data.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def homes(web, tiny):
    """The stand-in, with every benchmark where its record says."""
    release = tiny / "MME/MME_Benchmark_release_version"
    more = {"MME_Benchmark_release_version/eval_tool/calculation.py": b"print()"}
    mme = zipped(release, "MME_Benchmark_release_version/", more)
    web.add_repository("darkyarding/MME", {"MME_Benchmark_release_version.zip": mme}, "dataset")
    table = "mmbench_dev_20230712.tsv"
    home = "/mmclassification/datasets/mmbench"
    web.files[f"{home}/{table}"] = (tiny / "mmbench" / table).read_bytes()
    commit = urlsplit(KNOWN["pope"].sources[0].url).path.rsplit("/", 1)[0]
    for name, content in contents(tiny / "pope/coco").items():
        web.files[f"{commit}/{name}"] = content
    for name, content in contents(tiny / "pope/val2014").items():
        web.files[f"/val2014/{name}"] = content
    web.add_repository("MMVP/MMVP", contents(tiny / "mmvp"), "dataset")
    seed = {
        "SEED-Bench.json": (tiny / "seed_bench/SEED-Bench.json").read_bytes(),
        "SEED-Bench-image.zip": zipped(
            tiny / "seed_bench/SEED-Bench-image", "SEED-Bench-image/", {"SEED-Bench-image/x": b"x"}
        ),
    }
    web.add_repository("AILab-CVC/SEED-Bench", seed, "dataset")
    question_file = (tiny / "gqa/data/testdev_balanced_questions.json").read_bytes()
    web.files["/nlp/data/gqa/questions1.2.zip"] = zipped(
        tiny / "mmvp",
        "other/",
        {"testdev_balanced_questions.json": question_file},
    )
    web.files["/nlp/data/gqa/images.zip"] = zipped(
        tiny / "gqa/data/images", "images/", {"images/999.jpg": b"x"}
    )
    flickr = contents(tiny / "Flickr")
    lines = {n: c for n, c in flickr.items() if n.endswith(".jsonl")}
    web.add_repository("fumingyu064/ACCM", {f"Flickr30k/{n}": c for n, c in lines.items()})
    captions = zipped(tiny / "gqa/data/images", "x/", {n: flickr[n] for n in flickr if "data" in n})
    web.files["/people/karpathy/deepimagesent/caption_datasets.zip"] = captions
    return web


@pytest.fixture
def known(homes, tiny):
    """The records, with the stand-in's addresses and the tiny benchmarks' counts."""
    return {name: _moved(KNOWN[name], homes.url, tiny) for name in BENCHMARKS}


def _moved(record, url, tiny):
    folder = data_folder(record.name, None, str(tiny))
    questions = reader(record.name).read_questions(folder)
    return dataclasses.replace(
        record,
        sources=tuple(_moved_source(source, url) for source in record.sources),
        questions={below: len(questions) for below in record.questions},
        images=None if record.images is None else len(asked_images(questions)),
    )


def _moved_source(source, url):
    if isinstance(source, (WebFile, AskedImages)):
        return dataclasses.replace(source, url=url + urlsplit(source.url).path)
    if isinstance(source, ZipParts) and source.repository is None:
        return dataclasses.replace(source, file=url + urlsplit(source.file).path)
    assert not isinstance(source, HubFiles) or "://" not in source.repository
    return source
