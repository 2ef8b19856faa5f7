"""Runs the parts of the check that are not done, and writes gpu_check.json and gpu_check.md."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import traceback
from pathlib import Path

import torch

from llava.eval.sessions import processor_name
from scripts.gpu.page import page
from scripts.gpu.parts import PARTS, Check


def main() -> int:
    """Runs the command; returns 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=["all"], choices=["all", *PARTS])
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    start = time.monotonic()
    args.output.mkdir(parents=True, exist_ok=True)
    check = Check(args.output, args.rehearse)
    for name in PARTS if "all" in args.parts else args.parts:
        file = args.output / f"{name}.json"
        if file.is_file() and "error" not in json.loads(file.read_text("utf-8")):
            continue
        if time.monotonic() - start > args.seconds:
            print(f"no time is left for: {name}", flush=True)
            continue
        begun = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            found = PARTS[name](check)
        except Exception:  # the other parts still run
            found = {"error": traceback.format_exc()}
            print(found["error"], flush=True)
        found = {"machine": _machine(), "part_seconds": time.monotonic() - begun} | found
        file.write_text(json.dumps(found, indent=1), "utf-8")
        print(f"== {name}: {found['part_seconds']:.0f} s", flush=True)
    files = {name: args.output / f"{name}.json" for name in PARTS}
    report = {n: json.loads(f.read_text("utf-8")) for n, f in files.items() if f.is_file()}
    (args.output / "gpu_check.json").write_text(json.dumps(report, indent=1), "utf-8")
    (args.output / "gpu_check.md").write_text(page(report), "utf-8")
    print(page(report))
    return int(any("error" in found for found in report.values()))


def _machine() -> dict:
    """Returns the machine and the versions."""
    import transformers

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name()
    return {
        "card": card,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
