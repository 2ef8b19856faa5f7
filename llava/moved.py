"""Modules under their old names: imports still find them, with one warning of the new name.

The finder comes last, so that Python asks it only for modules that do not exist; no files are
needed for old names.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_LOADING = "llava.model.loading"
_FILES = ("bpe", "configs", "fingerprint", "foreign", "locate", "tensor_files", "weights")
# Package -> its modules that have another name in it, each as OLD:NEW.
_WITHIN = {
    "llava.benchmarks": "bring:fetch known:catalog look:verify",
    "llava.checkpoints": "known:download",
    "llava.download": "trouble:errors",
    "llava.eval": (
        "finite:engine image_sizes:journal machine:sessions pixels:caches run_messages:progress "
        "shared:caches"
    ),
    "llava.eval.bench": "parts:shapes picture:table words:random_model",
    "llava.eval.benchmarks": "five_captions:flickr native:question",
    "llava.eval.report": "own:units page:write spreadsheet:table thumbnails:disagreements",
    "llava.mini": "facts:scene vocabulary:architecture",
    "llava.mini.measuring": "captions:questions figures:metrics",
    "llava.mini.stages": "sights:llava",
    "llava.model": "lagging:cuda prompt:prompt_ids reading:kv_cache side_stream:cuda",
    "llava.model.language_model": "graphs:compiled",
    "llava.serve": "history:line_editor prompt:line_editor",
    "llava.serve.web": (
        "calls:gate connection:messages lengths:answering limits:arguments logins:address "
        "reading:inputs style:layout"
    ),
    "llava.train": (
        "answer_logprobs:packing conversations:captions folder:stage learner:step "
        "optimiser:step order:batches outcome:packing record:provenance run_dir:stage "
        "sampler:batches team:distributed"
    ),
    "llava.train.stages": "new_caption_model:caption",
}
# Old name -> the new name, or several if the module was split.
MOVED: dict[str, tuple[str, ...]] = {
    f"{package}.{old}": (f"{package}.{new}",)
    for package, names in _WITHIN.items()
    for old, new in (name.split(":") for name in names.split())
}
MOVED |= {f"llava.model.{name}": (f"{_LOADING}.{name}",) for name in _FILES} | {
    "llava.eval.command": ("llava.utils.cli",),
    "llava.eval.flags": ("llava.utils.flags",),
    "llava.eval.launch": ("llava.utils.launch",),
    "llava.eval.limit": ("llava.eval.benchmarks.registry",),
    "llava.eval.lines": ("llava.utils.jsonl",),
    "llava.eval.processes": ("llava.utils.distributed",),
    "llava.eval.stopping": ("llava.utils.stopping",),
    "llava.model.language_model.decoding": ("llava.decoding",),
    "llava.model.parts": (
        f"{_LOADING}.placement",
        f"{_LOADING}.llava_config",
        "llava.model.multimodal_encoder.builder",
        "llava.model.multimodal_projector.builder",
        "llava.model.language_model.builder",
        "llava.model.compensation.builder",
    ),
    "llava.model.products.optimize": ("llava.model.products.layers",),
    "llava.model.quantized": (
        "llava.model.language_model.quantized",
        "llava.model.language_model.builder",
    ),
    "llava.serve.likeness": ("llava.mini.likeness",),
    "llava.train.mini_llava": ("llava.mini.stages.mini_llava",),
}

# Old module -> the old names in it -> the new names.
RENAMED: dict[str, dict[str, str]] = {
    "llava.benchmarks.bring": {"bring": "fetch_benchmark"},
    "llava.benchmarks.look": {"look": "verify_benchmark"},
    "llava.eval.bench.picture": {"check": "check_picture", "draw": "draw_picture"},
    "llava.model.lagging": {"LaggingFlag": "AsyncStopFlag"},
    "llava.model.reading": {"Prefix": "KVPrefix", "Reader": "DecodeSession"},
}


def names_of(old: str, modules: Sequence[str]) -> Callable[[str], object]:
    """Returns a module's ``__getattr__`` for names that have moved, which warns the first time.

    Args:
        old: the module that had them.
        modules: the modules that have them now.
    """
    renamed = RENAMED.get(old, {})
    is_said: list[bool] = []

    def look_up(name: str) -> object:
        for module in () if name.startswith("__") else map(import_module, modules):
            now = name if hasattr(module, name) else renamed.get(name, name)
            if hasattr(module, now):
                if not is_said:
                    is_said.append(True)
                    text = f"{name} of {old} is {now} of {module.__name__} now"
                    warnings.warn(text, FutureWarning, stacklevel=2)
                return getattr(module, now)
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    return look_up


class _OldName(Loader):
    """A loader of modules under the names of MOVED."""

    def __init__(self) -> None:
        self._own_spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the new module; a look-up module if it was split or has other names in it."""
        modules = MOVED[spec.name]
        if len(modules) > 1 or spec.name in RENAMED:
            module = ModuleType(spec.name)
            vars(module)["__getattr__"] = names_of(spec.name, modules)
            return module
        warnings.warn(f"{spec.name} is {modules[0]} now", FutureWarning, stacklevel=2)
        module = import_module(modules[0])
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Runs nothing; the machinery of imports has put the old name into a module's spec."""
        if self._own_spec is not None:
            module.__spec__ = self._own_spec


class MovedFinder(MetaPathFinder):
    """A finder of the modules in MOVED."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the spec of a module under an old name; None for any other."""
        return ModuleSpec(fullname, _OldName()) if fullname in MOVED else None


def find_old_names() -> None:
    """Registers the finder of old names; a second call does nothing."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())
