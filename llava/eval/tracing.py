"""Questions traced: requests are read, answered and written down with all that happened."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from llava.errors import UserError, shown
from llava.eval.arguments import TraceArguments
from llava.eval.engine import Clock, Outcome, Request, answer_units, units_in_order
from llava.eval.figure import draw_trace, picture_format
from llava.files import check_target, dump_json, printable
from llava.image_url import fetch, is_url
from llava.method import method_of
from llava.mm_utils import load_image
from llava.model.builder import load_from_arguments
from llava.model.compensation.compensator import Compensation
from llava.model.compensation.scene_graph import ChosenGraph
from llava.model.sample import Answer
from llava.utils.cli import SOME_FAILED
from llava.utils.jsonl import LineWriter, read_lines

_REQUEST_KEYS = {field.name for field in dataclasses.fields(Request)}


def answer_record(answer: Answer) -> dict:
    """Returns an answer as JSON, named as in the recorded reference; null for skipped stages."""
    selection, written = answer.selection, answer.written
    record: dict = dict.fromkeys(
        "text_idx iqr cls_idx union_idx kept_idx captions caption_ids beam_scores selector_scores "
        "chosen_index chosen_caption".split()
    )
    if selection is not None:
        record.update(
            text_idx=selection.text_idx.tolist(),
            iqr=dataclasses.asdict(selection.outliers),
            cls_idx=selection.cls_idx.tolist(),
            union_idx=selection.union_idx.tolist(),
        )
    record["kept_idx"] = answer.kept_idx
    record.update(answer.views_record)
    if answer.resolved_num is not None:
        record["visual_token_num"] = answer.resolved_num
    if written is not None:
        record.update(
            captions=written.captions,
            caption_ids=written.candidates.ids,
            beam_scores=written.candidates.scores,
            chosen_index=0,
            chosen_caption=written.captions[0],
        )
    if isinstance(written, Compensation):
        record.update(
            selector_scores=written.scores,
            chosen_index=written.chosen_index,
            chosen_caption=written.chosen_caption,
        )
    if answer.supplement is not None and answer.compensation is not written:
        record["supplement"] = answer.supplement.text
    if answer.layer_kept:
        record["layer_kept_idx"] = {one.layer: list(one.kept_idx) for one in answer.layer_kept}
        record["mean_visual_tokens"] = answer.mean_visual_tokens
    graph = answer.find_record(ChosenGraph)
    if graph is not None:
        record["scene_graph"] = graph.describe()
    return record | {
        "llm_input_ids": answer.input_ids,
        "inputs_embeds_len": answer.input_length,
        "out_ids": answer.out_ids,
        "out_text": answer.raw_text,
        "decoding": dataclasses.asdict(answer.decoding),
    }


def outcome_record(outcome: Outcome) -> dict:
    """Returns a line of the output: id and answer, or id and error."""
    return outcome.line({"id": outcome.request.id}, answer_record)


def read_requests(args: TraceArguments) -> list[Request | dict]:
    """Reads the lines of a file in order: each a request, or the record of its error."""
    path = Path(str(args.requests))
    lines: list[Request | dict] = []
    for number, value in read_lines(path):
        try:
            if isinstance(value, str):
                raise UserError(value)
            lines.append(_request(value, args, path.parent, f"line {number} of {path}"))
        except UserError as error:
            line_id = value.get("id") if isinstance(value, dict) else None
            lines.append({"id": line_id, "line": number, "error": printable(error)})
    if not lines:
        raise UserError(f"there are no requests in {path}: write one JSON object a line")
    return lines


def _request(value: dict, args: TraceArguments, folder: Path, where: str) -> Request:
    value = {key: entry for key, entry in value.items() if entry is not None}
    missing = {"id", "image", "question"} - set(value)
    unknown = set(value) - _REQUEST_KEYS
    if missing or unknown:
        complaints = [
            f"{what} {', '.join(sorted(keys))}"
            for what, keys in (("lacks", missing), ("has the unknown", unknown))
            if keys
        ]
        raise UserError(
            f"{where} {' and '.join(complaints)}; known are {', '.join(sorted(_REQUEST_KEYS))}"
        )
    if not isinstance(value["image"], str):
        raise UserError(f"{where}: image is {value['image']!r}, not a path")
    if is_url(value["image"]):
        raise UserError(
            f"{where}: image is the URL {shown(value['image'])}, and files of requests are read "
            "without the network: save the picture, and give its path"
        )
    if not isinstance(value["id"], (str, int)):
        raise UserError(f"{where}: id is {value['id']!r}, not a text or a whole number")
    return Request(**_defaults(args) | value | {"image": folder / value["image"]})


def _defaults(args: TraceArguments) -> dict:
    """Returns the defaults of a request, from the flags."""
    return method_of(args) | {"max_new_tokens": args.max_new_tokens} | args.decoding()


def trace_one(args: TraceArguments) -> int:
    """Answers the question of the flags; writes its record and its figure."""
    place = str(args.image)
    source = fetch(place) if is_url(place) else Path(place)
    # Fails before the model is loaded, like the checks below.
    image = load_image(source, name=f"the image {shown(place)}")
    request = Request(
        id=printable(Path(place).name),
        image=source,
        question=str(args.question),
        tower_question=args.tower_question,
        **_defaults(args),
    )
    if args.figure is not None:
        picture_format(Path(args.figure))
    for target in filter(None, (args.output, args.figure)):
        check_target(Path(target))
    model = load_from_arguments(args.without_unused_parts())
    (outcome,) = answer_units(model, [[[request]]], Clock())
    record = outcome_record(outcome)
    if outcome.answer is None or "error" in record:
        raise UserError(record["error"])
    if args.output is None:
        print(dump_json(record))
    else:
        with LineWriter(Path(args.output)) as writer:
            writer.write(record)
    if args.figure is not None:
        draw_trace(model, image, request.question, outcome.answer, Path(args.figure))
        print(f"figure: {args.figure}", file=sys.stderr)
    print(f"answer: {outcome.answer.text}", file=sys.stderr)
    return 0


def trace_many(args: TraceArguments) -> int:
    """Answers a file of requests; returns the exit status."""
    lines = read_requests(args)
    requests = [line for line in lines if isinstance(line, Request)]
    units = units_in_order(requests, args.batch_size)
    # A line may set no_image itself, whatever the flag says.
    args = dataclasses.replace(args, no_image=all(request.no_image for request in requests))
    failed = 0
    with LineWriter(Path(str(args.output))) as writer:
        outcomes: Iterator[Outcome] = iter(())
        if units:
            model = load_from_arguments(args.without_unused_parts())
            outcomes = answer_units(model, units, Clock())
        for line in tqdm(lines, unit="question", smoothing=0):
            record = outcome_record(next(outcomes)) if isinstance(line, Request) else line
            if "error" in record:
                failed += 1
                tqdm.write(f"error: {record['id']}: {record['error']}", file=sys.stderr)
            writer.write(record)
    if failed:
        print(f"{failed} of {len(lines)} requests failed", file=sys.stderr)
    return SOME_FAILED if failed else 0
