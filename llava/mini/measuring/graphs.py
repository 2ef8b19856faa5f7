"""Scene graphs of test scenes against the true ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from llava.eval.report.statistics import SEED, Sampled, ratio, sampled_means
from llava.files import write_json
from llava.markdown import markdown_table
from llava.mini.drawing import draw_scene
from llava.mini.graphs import NAMES, relations_of
from llava.mini.language import conversations
from llava.mini.measuring.arguments import GraphArguments
from llava.mini.measuring.metrics import to_json
from llava.mini.measuring.table import cell
from llava.mini.scene import make_scene, scene_generator
from llava.model.builder import load_from_arguments
from llava.model.compensation.scene_graph import ChosenGraph
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Sample

ALL, FOUND = "all triplets", "found"


def measure_graphs(args: GraphArguments) -> int:
    """Finds the graphs of test scenes, and prints which share of the true triplets is in them.

    Raises:
        UserError: a flag or the model is not valid.
    """
    args.check()
    rows = list(_rows(load_from_arguments(args), args))
    found = shares(rows)
    if args.output is not None:
        settings: dict[str, object] = {"scenes": args.scenes, "scene_seed": args.scene_seed}
        settings |= {"model_path": args.model_path, "options": args.compensation_options}
        write_json(Path(args.output), {"settings": settings, **to_json(found)})
    lines = [[name, cell(share)] for name, share in found.items()]
    print("\n".join(markdown_table(["Triplets", "Share"], lines, texts=1)))
    return 0


def _rows(model: LlavaAccm, args: GraphArguments) -> Iterator[dict[str, float]]:
    """Yields the counts of each scene; see counts_of."""
    for start in tqdm(range(0, args.scenes, args.batch_size), "scenes", unit="batch"):
        samples, truths = [], []
        for number in range(start, min(start + args.batch_size, args.scenes)):
            generator = scene_generator(args.scene_seed, "test", number)
            scene = make_scene(generator)
            question = conversations(scene, generator)[0][0]
            samples.append(
                Sample(draw_scene(scene), question, visual_token_num=1, max_new_tokens=1)
            )
            truths.append([one.text for one in relations_of(scene.things)])
        for answer, truth in zip(model.answer(samples), truths):
            graph = answer.find_record(ChosenGraph)
            yield counts_of(truth, [] if graph is None else graph.graph.texts)


def counts_of(truth: list[str], found: list[str]) -> dict[str, float]:
    """Returns how many triplets are true, found, and both; the last two of each predicate too."""
    counts: dict[str, float] = {}
    for kind in (ALL, *NAMES.predicates[1:]):
        wanted = {text for text in truth if kind == ALL or f" {kind} " in text}
        counts |= {f"true {kind}": len(wanted), f"hit {kind}": len(wanted & set(found))}
    return counts | {FOUND: len(found)}


def shares(rows: Sequence[Mapping[str, float]]) -> dict[str, Sampled]:
    """Returns recall of all triplets and of each predicate, and precision, over all scenes."""
    names = list(rows[0])
    means = sampled_means(np.array([[row[name] for row in rows] for name in names]), SEED)
    by_name = dict(zip(names, means))
    parts = {
        f"recall, {kind}": (f"hit {kind}", f"true {kind}") for kind in (ALL, *NAMES.predicates[1:])
    } | {"precision": (f"hit {ALL}", FOUND)}
    found = {name: ratio(by_name[part], by_name[whole]) for name, (part, whole) in parts.items()}
    return {name: share for name, share in found.items() if share is not None}
