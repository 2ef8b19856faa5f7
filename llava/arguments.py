"""The flags that commands share: the model, how it is asked, how answers are decoded.

Nothing here imports torch, so that a command's help appears at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, List, Optional, TypeVar

from llava.budgets import AskedBudget
from llava.compensations import CAPTIONS, FLAGS, NOTHING, UNCOMPENSATED, name_of, parts_of, terms_of
from llava.decoding import Decoding
from llava.errors import UserError
from llava.files import is_there
from llava.method import VIEW_SPLITS, Method, method_of

PROJECT = Path(__file__).parents[1]  # the folder of this package's source
DTYPES = ("float32", "float16", "bfloat16")
CPU_PRODUCTS = ("auto", "plain", "packed")

Asking = TypeVar("Asking", bound="AskArguments")


def flag(help: str, default: object = None, choices: Sequence[str] = (), off: object = None) -> Any:
    """Returns a dataclass field with its documentation; see llava.utils.flags.

    Where a flag has to be given, its default is None, and its type is that of the value: the
    command refuses to start without it.
    """
    return field(default=default, metadata={"help": help, "choices": choices, "off": off})


def list_flag(help: str, default: Sequence, choices: Sequence[str] = ()) -> Any:
    """Returns a dataclass field that holds several values, with its documentation."""
    metadata = {"help": help, "choices": choices}
    return field(default_factory=lambda: list(default), metadata=metadata)


def path_flag(help: str, default: str) -> Any:
    """Returns a dataclass field for a path.

    Its default is in the current folder, or in the project's if it exists only there.
    """
    return field(default_factory=lambda: _default_path(default), metadata={"help": help})


def _default_path(name: str) -> str:
    in_project = PROJECT / name
    return str(in_project) if is_there(in_project) and not is_there(Path(name)) else name


def budget_flag(help: str) -> Any:
    """Returns the field of a dataclass for a budget whose default is VISUAL_TOKEN_NUM."""
    return flag(
        f"{help} A number, a share of an image's tokens (1/9, 11%) or all. Default: "
        f"{_default_budget()} (VISUAL_TOKEN_NUM in llava/model/multimodal_encoder/clip_encoder.py)."
    )


def _default_budget() -> str:
    """Reads VISUAL_TOKEN_NUM from the file that users edit, without importing it and torch."""
    source = PROJECT / "llava" / "model" / "multimodal_encoder" / "clip_encoder.py"
    found = re.search(r"^VISUAL_TOKEN_NUM = [\"']?([\w./%]+)", source.read_text("utf-8"), re.M)
    return found[1] if found else "as set"


# llava.utils.flags turns each field into a flag; it knows Optional[int], not int | None.
@dataclass
class ModelArguments:
    """The flags that select a model, its files and its device.

    Every field is an argument of load_pretrained_model and a flag of every command that loads it.
    """

    model_path: str = flag("LLaVA-1.5, LLaVA-NeXT or Qwen2.5-VL: a folder, or a name on the hub.")
    vision_tower: Optional[str] = flag(
        "CLIP, vision and text: a folder or hub name. Default: the name in the model's "
        "config.json, else clip-vit-large-patch14-336; looked for in the model's folder, beside "
        "it, and under the checkpoints root; the name in config.json then also on the hub."
    )
    side_tower: Optional[str] = flag(
        "For Qwen2.5-VL: CLIP, vision and text, beside the model's own tower (a folder or hub "
        "name). Captions, scene graphs and pruners that compare patches with the question read it."
    )
    gpt2: Optional[str] = flag(
        "GPT-2's config and tokenizer: a folder or hub name. Default: gpt2, looked for in the "
        "same places on this machine."
    )
    caption_model: Optional[str] = flag(
        "ACCM's caption model (.pt). Default: accm/coco_prefix-009.pt, looked for there too."
    )
    selector: Optional[str] = flag(
        "ACCM's selector (.pt). Default: accm/llava-RL_prefix-019.pt, looked for there too."
    )
    longclip: Optional[str] = flag("LongCLIP (.pt). Default: longclip-L.pt, looked for there too.")
    scene_graph: Optional[str] = flag(
        "The relation model of --compensation scene-graph (.pth or .safetensors). Default: "
        "accm/checkpoint0104.pth, looked for there too."
    )
    checkpoints_root: str = path_flag("Folder where checkpoints lie.", "checkpoints")
    device: str = flag("auto (a GPU if there is one), cpu, cuda, cuda:1, ...", "auto")
    dtype: str = flag(
        "auto: bfloat16 on a GPU, as in the published evaluation but for MMBench, which was run in "
        "float16; float32 on a CPU.",
        "auto",
        choices=("auto", *DTYPES),
    )
    device_map: Optional[str] = flag(
        "auto spreads an LLM that is larger than one GPU over all of them and the CPU's memory.",
        choices=("auto",),
    )
    load_8bit: bool = flag(
        "Quantise the LLM's matrices to 8 bits as they are loaded: on a GPU, with bitsandbytes (the"
        " extra 'quantized').",
        False,
    )
    load_4bit: bool = flag("The same to 4 bits (nf4).", False)
    compile: bool = flag(
        "Compile the LLM for prompts and answers of a few fixed lengths: the first answers take "
        "minutes, the others less time.",
        False,
    )
    eager: bool = flag(
        "On a GPU, start every kernel by itself, as transformers does: no CUDA graphs, no fused "
        "layers of the LLM.",
        False,
    )
    cpu_products: str = flag(
        "How matrix products read their weights on a CPU: auto (what was found the fastest on its "
        "kind of processor), plain (as in transformers) or packed (by oneDNN, all of them).",
        "auto",
        choices=CPU_PRODUCTS,
    )
    compensation: str = flag(
        "What is given back for the dropped tokens: caption+selector (ACCM), caption (the caption "
        "model's first one), scene-graph (which objects stand in which relation), oracle (a text "
        "of --oracle), merge (each dropped token is averaged into the kept one that is most like "
        "it), rectify (kept tokens stay at their places and count by the tokens that they stand "
        "for), none, or a sum such as caption+merge. Only the files that it reads are loaded.",
        CAPTIONS,
        off=NOTHING,
    )
    compensation_options: List[str] = list_flag(
        "Settings of scene-graph, NAME=VALUE; an unknown name lists those that it has.", []
    )
    oracle: Optional[str] = flag(
        "The texts of --compensation oracle, JSON or JSON lines: objects with text and question_id,"
        " or with text, image (a file's name) and question; or one object, from ids to texts."
    )
    silence: Optional[bool] = flag(
        "Whether the selector may choose that the LLM be told nothing. Default: where its file has "
        "learnt that; the published one has not."
    )
    patch_post_layernorm: Optional[bool] = flag(
        "Whether patches pass CLIP's final layer norm before they are projected. Default: what "
        "the model's config.json says (accm_patch_post_layernorm), else yes."
    )
    text_selection: Optional[str] = flag(
        "Whether the question picks the farthest patches (the method) or the nearest. Default: "
        "what the model's config.json says (accm_text_selection), else farthest.",
        choices=("farthest", "nearest"),
    )

    @property
    def compensation_parts(self) -> tuple[str, ...]:
        """The flags of the files that the compensation reads."""
        return parts_of(self.compensation)

    def check_compensation(self) -> None:
        """Refuses an unknown compensation, and flags that have no effect with the given one.

        Raises:
            UserError: it is unknown; the message lists the known ones. Or a flag has no effect.
        """
        parts = self.compensation_parts
        for name, (part, needed) in FLAGS.items():
            if getattr(self, name) not in (None, [], ()) and part not in parts:
                raise UserError(
                    f"--{name.replace('_', '-')} would do nothing without {needed}: leave out "
                    "one of the flags"
                )

    @property
    def compensation_terms(self) -> tuple[str, ...]:
        """The compensations whose sum is asked for; see llava.compensations.terms_of."""
        return terms_of(self.compensation)

    @property
    def has_captions(self) -> bool:
        """Whether dropped tokens are compensated."""
        return bool(self.compensation_terms)

    @property
    def compensation_name(self) -> str:
        """The name of the compensation."""
        return name_of(self.compensation)

    @property
    def bits(self) -> Optional[str]:
        """The quantisation of the LLM's matrices: "4bit", "8bit", or None."""
        return "4bit" if self.load_4bit else "8bit" if self.load_8bit else None

    @property
    def device_name(self) -> str:
        """The device that --device means on this machine, by torch's name for it."""
        if self.device != "auto":
            return self.device
        import torch  # takes seconds

        return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass
class PrunerArguments(ModelArguments):
    """The flags that select how visual tokens are chosen."""

    pruner: str = flag(
        "What chooses the visual tokens: accm, a published method (fastervlm, vispruner, visionzip,"
        " ...; an unknown name lists all), one of the controls that read neither image nor question"
        " (random, uniform, pool), none (keeps all) or zero (keeps none).",
        Method.pruner,
    )
    pruner_options: List[str] = list_flag(
        "Settings of the pruner, NAME=VALUE; an unknown name lists those that it has. With "
        "published=true it keeps as many tokens as its authors' code, not exactly the budget.",
        [],
    )
    view_split: Optional[str] = flag(
        "How LLaVA-NeXT spreads the budget over an image's views; see docs/models.md.",
        choices=VIEW_SPLITS,
    )
    visual_token_num: Optional[AskedBudget] = budget_flag("Visual tokens to keep.")
    seed: int = flag("Seed of the random draws of each question.", Method.seed)

    @property
    def method(self) -> Method:
        """The record of how a question is asked with these flags."""
        return Method(**method_of(self))


@dataclass
class AskArguments(PrunerArguments):
    """The flags of how a model is asked."""

    text_token_num: Optional[int] = flag(
        "Tokens that the question picks. Default: the paper's number for this budget."
    )
    batch_size: int = flag("Questions at once.", 8)
    no_image: bool = flag("Ask without any visual token or caption: the floor.", False)

    def without_unused_parts(self: Asking) -> Asking:
        """Returns the flags without compensation if no image is shown.

        The parts that write captions are then neither loaded nor asked to read the question.
        """
        return self if self.method.drops_some else replace(self, **UNCOMPENSATED)


@dataclass
class DecodingArguments(ModelArguments):
    """The flags of how an answer's tokens are chosen; benchmarks always take the likeliest."""

    temperature: float = flag(
        "0 takes the likeliest token each time; above, tokens are drawn, the more freely the "
        "higher it is.",
        0.0,
    )
    top_p: Optional[float] = flag(
        "Draw from the likeliest tokens only that together have this probability (with a "
        "--temperature). Default: from all."
    )
    num_beams: int = flag("Search for the likeliest answer with so many beams.", 1)

    def check_decoding(self) -> None:
        """Refuses settings without a meaning or an effect, before a model is loaded.

        Raises:
            UserError: a setting is wrong; the message names it and its possible values.
        """
        Decoding(**self.decoding()).check(self.compile)

    def decoding(self) -> dict[str, Any]:
        """Returns the settings by their names in Sample, Request, Chat and Decoding."""
        return {name: getattr(self, name) for name in ("temperature", "top_p", "num_beams")}
