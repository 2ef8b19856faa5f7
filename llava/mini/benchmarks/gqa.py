"""Mini GQA: open questions, and the same number to be answered by yes or no."""

from __future__ import annotations

from pathlib import Path

from llava.files import write_json
from llava.mini.benchmarks.drawing import (
    Found,
    Note,
    SceneSource,
    note,
    open_question,
    write_image,
    yes_and_no,
)
from llava.mini.language import Fact

# Kind -> GQA's detailed and semantic type. GQA does not count objects; that type is our own.
_OPEN = {
    "color": ("directOf", "attr"),
    "shape": ("categoryAttr", "cat"),
    "place": ("positionQuery", "attr"),
    "size": ("directOf", "attr"),
    "count": ("count", "obj"),
}
_YES_NO = {
    "existence": ("exist", "obj"),
    "relation": ("relVerify", "rel"),
    "color": ("verifyAttr", "attr"),
    "shape": ("verifyAttr", "attr"),
    "place": ("positionVerify", "attr"),
    "size": ("verifyAttr", "attr"),
}
_FIRST_ID = 10_000_000


def write(folder: Path, source: SceneSource, size: int) -> dict[str, Note]:
    """Writes the benchmark, with that many questions per kind and form; see write_benchmarks."""
    kinds = [*(("query", *item) for item in _OPEN.items())]
    kinds += [("verify", *item) for item in _YES_NO.items()]
    records: dict[str, dict] = {}
    notes: dict[str, Note] = {}
    for turn in range(size):
        for structural, kind, (detailed, semantic) in kinds:
            key, image = str(_FIRST_ID + len(records)), f"n{len(records) + 1}"
            if structural == "query":
                found: Found = open_question(source, kind, turn)
                fact = found.value
            else:
                found = yes_and_no(source, kind, turn // 2)
                fact = found.value[turn % 2]
            types = {"detailed": detailed, "semantic": semantic, "structural": structural}
            records[key] = _record(key, image, fact, types)
            notes[key] = note(found.scene, fact, found.generator)
            write_image(found.scene, folder / "data" / "images" / f"{image}.jpg")
    write_json(folder / "data" / "testdev_balanced_questions.json", records)
    return notes


def _record(key: str, image: str, fact: Fact, types: dict[str, str]) -> dict:
    steps = _steps(fact, types["structural"])
    texts = [f"{step['operation']}: {step['argument']} {step['dependencies']}" for step in steps]
    group = fact.kind if types["structural"] == "query" else None
    return {
        "semantic": steps,
        "entailed": [],
        "equivalent": [key],
        "question": fact.text,
        "imageId": image,
        "isBalanced": True,
        "groups": {"global": group, "local": f"{types['detailed']}-{fact.kind}"},
        "answer": fact.answer,
        "semanticStr": "->".join(texts),
        "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
        "types": types,
        "fullAnswer": fact.answer,
    }


def _steps(fact: Fact, structural: str) -> list[dict]:
    """Returns GQA's program: find the object, and query the attribute."""
    subject = fact.subject.name if fact.subject is not None else "object"
    operation = "exist" if fact.kind == "existence" else f"{structural} {fact.kind}"
    return [
        {"operation": "select", "dependencies": [], "argument": subject},
        {"operation": operation, "dependencies": [0], "argument": "?"},
    ]
