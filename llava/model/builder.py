"""The only door through which weights come in: ``load_pretrained_model``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_max_memory
from PIL import Image
from transformers import CLIPImageProcessorPil, GPT2Tokenizer, LlamaForCausalLM

from llava.errors import UserError, quoted
from llava.eval.flags import flag, list_flag  # noqa: F401  trainings import both from here
from llava.files import read_json
from llava.mm_utils import process_images
from llava.model.about import read_about
from llava.model.bpe import read_bpe
from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.compensator import Compensator
from llava.model.compensation.long_clip import LongClipText
from llava.model.compensation.selector import Selector
from llava.model.configs import clip_config, config_errors, gpt2_config, read_config
from llava.model.language_model.graphs import check_compiler
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.llava_arch import LlavaAccm
from llava.model.locate import find_beside, locate, path_flag
from llava.model.multimodal_encoder.clip_encoder import VISUAL_TOKEN_NUM, ClipTower
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.parts import (
    LlavaConfig,
    Placement,
    Tensors,
    build_caption_model,
    build_clip,
    build_long_clip,
    build_projector,
    build_selector,
    empty_llm,
    fill_llm,
    read_llava_config,
    split_llava,
)
from llava.model.products import optimize_for_inference
from llava.model.products.forms import CHOICES, choose_forms
from llava.model.prompt import prompt_ids
from llava.model.quantized import bits_config, check_bits, load_quantized
from llava.model.sample import DEFAULT_MAX_NEW_TOKENS
from llava.model.weights import fill, has_weights, read_checkpoint

# What an LLM that is spread over GPUs may take of their memory: the rest is for keys and values.
GPU_SHARE = 0.85

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


# llava.eval.flags turns each field into a flag; it knows Optional[int], not int | None.
@dataclass
class ModelArguments:
    """Which model, from where, on what. Every field is an argument of load_pretrained_model and a
    flag of every command that loads it."""

    model_path: Optional[str] = flag("LLaVA-1.5: a folder, or a name on the Hugging Face hub.")
    vision_tower: Optional[str] = flag(
        "CLIP, vision and text: a folder or hub name. Default: the name in the model's "
        "config.json, else clip-vit-large-patch14-336; looked for in the model's folder, beside "
        "it, and under the checkpoints root; the name in config.json then also on the hub."
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
    checkpoints_root: str = path_flag("Folder where checkpoints lie.", "checkpoints")
    device: str = flag("auto (a GPU if there is one), cpu, cuda, cuda:1, ...", "auto")
    dtype: str = flag(
        "auto: bfloat16 on a GPU, as in the published evaluation but for MMBench, which was run in "
        "float16; float32 on a CPU.",
        "auto",
        choices=("auto", *_DTYPES),
    )
    device_map: Optional[str] = flag(
        "auto spreads an LLM that is larger than one GPU over all of them and the CPU's memory.",
        choices=("auto",),
    )
    load_8bit: bool = flag(
        "Quantise the LLM's matrices to 8 bits as they are loaded: on a GPU, with bitsandbytes (the "
        "extra 'quantized').",
        False,
    )
    load_4bit: bool = flag("The same to 4 bits (nf4).", False)
    compile: bool = flag(
        "Compile the LLM for prompts and answers of a few fixed lengths, on a GPU into graphs: "
        "the first answers take minutes, the others less time.",
        False,
    )
    cpu_products: str = flag(
        "How matrix products read their weights on a CPU: auto (what was found the fastest on its "
        "kind of processor), plain (as in transformers) or packed (by oneDNN, all of them).",
        "auto",
        choices=CHOICES,
    )
    compensation: bool = flag(
        "Give the dropped tokens back as a caption. Without it, caption model, selector, LongCLIP "
        "and GPT-2 are not loaded.",
        True,
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
    def bits(self) -> Optional[str]:
        """What the LLM's matrices are quantised to: "4bit", "8bit", or None."""
        return "4bit" if self.load_4bit else "8bit" if self.load_8bit else None


def load_pretrained_model(
    model_path: str,
    model_base: None = None,
    model_name: str | None = None,
    **settings: object,
) -> tuple[LlamaTokenizer, LlavaAccm, CLIPImageProcessorPil, int]:
    """Loads LLaVA-1.5 with all parts of ACCM.

    Args:
        model_path: LLaVA-1.5, in its authors' layout or in transformers'.
        model_base: LLaVA's argument for weights that are not merged; None is the only choice.
        model_name: LLaVA's argument, which decides nothing here: what a checkpoint is, its
            config.json says.
        settings: the other fields of ModelArguments.

    Returns:
        The LLM's tokenizer, the model, the image processor, and the LLM's context length in
        tokens; the model holds the other three too.

    Raises:
        UserError: a part is missing, damaged or of another model, or a setting is wrong.
    """
    if model_base is not None:
        raise UserError(
            f"model_base is {quoted(model_base)}: only merged checkpoints are supported, leave it "
            "None"
        )
    model = load_from_arguments(ModelArguments(model_path, **settings))
    language_model = model.language_model
    return (
        language_model.tokenizer,
        model,
        model.image_processor,
        language_model.context_length,
    )


def load_from_arguments(args: ModelArguments) -> LlavaAccm:
    """load_pretrained_model for a command: takes its flags, gives the model alone."""
    if args.compile:
        check_compiler()
    if args.silence is not None and not args.compensation:
        raise UserError("--silence would do nothing without captions: leave out one of the flags")
    parts = locate_parts(args)
    place = placement(args)
    choose_forms(args.cpu_products, place.device, place.dtype, args.compile)  # or refuse it now
    folder = parts["model"]
    source = str(folder)
    config = read_llava_config(read_config(folder), source)
    llava = split_llava(read_checkpoint(folder), source)
    seen = load_tower(args, config, parts["vision_tower"], llava["tower"], place)
    tokenizer = load_llama_tokenizer(folder, config)
    compensator = None
    if args.compensation:
        compensator = _load_compensator(parts, seen.tower, place, args.silence)
    width = seen.tower.clip.config.vision_config.hidden_size
    projector = build_projector(config, width, llava["projector"], source, place)
    llm = load_llm(args, config, llava["llm"], source, place)
    model = LlavaAccm(
        tower=seen.tower,
        clip_tokenizer=seen.tokenizer,
        image_processor=seen.image_processor,
        language_model=LanguageModel(llm, projector, tokenizer, graphs=args.compile),
        compensator=compensator,
        image_aspect_ratio=config.image_aspect_ratio,
        text_selection=seen.text_selection,
        about=read_about(folder, Path(args.model_path).resolve().name),
    )
    model = model.eval().requires_grad_(False)
    return optimize_for_inference(model, args.cpu_products, args.compile)


@dataclass(frozen=True)
class Vision:
    """What sees, of a LLaVA checkpoint.

    Attributes:
        folder: the CLIP checkpoint.
        tower: CLIP.
        tokenizer: CLIP's.
        image_processor: images to pixels.
        text_selection: "farthest" or "nearest"; see select_tokens.
        image_aspect_ratio: see process_images.
    """

    folder: Path
    tower: ClipTower
    tokenizer: ClipTokenizer
    image_processor: CLIPImageProcessorPil
    text_selection: str
    image_aspect_ratio: str | None


def load_vision(args: ModelArguments) -> Vision:
    """The tower of a LLaVA checkpoint alone, frozen, for training on what it sees.

    Raises:
        UserError: see load_pretrained_model.
    """
    parts = locate_parts(dataclasses.replace(args, compensation=False))
    source = str(parts["model"])
    config = read_llava_config(read_config(parts["model"]), source)
    # A LLaVA that is yet to be trained has no weights, and no tower of its own.
    tensors = read_checkpoint(parts["model"]) if has_weights(parts["model"]) else {}
    own = split_llava(tensors, source)["tower"]
    seen = load_tower(args, config, parts["vision_tower"], own, placement(args))
    seen.tower.eval().requires_grad_(False)
    return seen


def load_tower(
    args: ModelArguments, config: LlavaConfig, folder: Path, own: Tensors, place: Placement
) -> Vision:
    """Loads CLIP with what belongs to it, as a LLaVA checkpoint uses it.

    Args:
        args: which model, with its variant.
        config: of the LLaVA checkpoint.
        folder: the CLIP checkpoint.
        own: the vision weights of the LLaVA checkpoint, which may have none.
        place: where it goes.

    Raises:
        UserError: see load_pretrained_model.
    """
    tower = _clip_tower(args, config, folder, own, place)
    sizes = tower.clip.config
    tokenizer = ClipTokenizer(folder)
    check_vocabulary(tokenizer, sizes.text_config.vocab_size, folder)
    end, wanted = tokenizer.encode("", tower.max_text_length)[-1], sizes.text_config.eos_token_id
    # transformers' CLIP reads a text at the id of its end; 2 stands for the highest id.
    if end != (len(tokenizer) - 1 if wanted == 2 else wanted):
        raise UserError(
            f"texts end with id {end} in the tokenizer of {folder}, and with {wanted} in its "
            "config.json: they are not of the same model; fetch the folder again"
        )
    processor = load_processor(folder, sizes.vision_config.image_size)
    selection = _text_selection(args, config)
    return Vision(folder, tower, tokenizer, processor, selection, config.image_aspect_ratio)


def load_llama_tokenizer(folder: Path, config: LlavaConfig) -> LlamaTokenizer:
    """Returns the LLM's tokenizer.

    Raises:
        UserError: it is missing, damaged or of another model.
    """
    tokenizer = LlamaTokenizer(folder)
    check_vocabulary(tokenizer, config.llm.vocab_size, folder)
    needed = len(prompt_ids("", tokenizer)) + VISUAL_TOKEN_NUM + DEFAULT_MAX_NEW_TOKENS
    if needed > config.llm.max_position_embeddings:
        raise UserError(
            f"{folder} reads {config.llm.max_position_embeddings} positions, by the "
            f"max_position_embeddings of its config.json, and a question and its answer take "
            f"{needed}: fetch the file again"
        )
    return tokenizer


# What a part is called where it is not named, and where it comes from.
_USUAL_NAMES = {
    "vision_tower": ("clip-vit-large-patch14-336", "openai/clip-vit-large-patch14-336"),
    "gpt2": ("gpt2", "openai-community/gpt2"),
    "caption_model": ("accm/coco_prefix-009.pt", "fumingyu064/ACCM"),
    "selector": ("accm/llava-RL_prefix-019.pt", "fumingyu064/ACCM"),
    "longclip": ("longclip-L.pt", "BeichenZhang/LongCLIP-L"),
}


def locate_parts(args: ModelArguments) -> dict[str, Path]:
    """Where each part that the flags ask for lies: "model", and by the names of the flags.

    Raises:
        UserError: a part is not to be found, or the model's config.json is not LLaVA-1.5's.
    """
    if args.model_path is None:
        raise UserError("say which model: --model-path FOLDER, or a name on the Hugging Face hub")
    model = locate(args.model_path)
    config = read_llava_config(read_config(model), str(model))
    parts = {
        "model": model,
        "vision_tower": _find(args, model, "vision_tower", config.vision_tower),
    }
    if args.compensation:
        for part in ("gpt2", "caption_model", "longclip", "selector"):
            parts[part] = _find(args, model, part)
    return parts


def locate_part(args: ModelArguments, part: str, weights: bool = False) -> Path:
    """Where one part lies that belongs to compensation.

    Args:
        args: which model.
        part: "gpt2", "caption_model", "longclip" or "selector".
        weights: whether GPT-2's own weights are wanted, to train from.

    Raises:
        UserError: it is not to be found.
    """
    return _find(args, locate(args.model_path), part, weights=weights)


def count_patches(vision_tower: Path) -> int:
    """N of a CLIP folder, without loading it.

    Raises:
        UserError: its config.json is not CLIP's.
    """
    vision = clip_config(read_config(vision_tower), str(vision_tower)).vision_config
    return (vision.image_size // vision.patch_size) ** 2


def _find(
    args: ModelArguments,
    model: Path,
    part: str,
    configured: str | None = None,
    weights: bool = False,
) -> Path:
    """The path of a part: as given, as the model's config names it, or by its usual name."""
    given = getattr(args, part)
    if given is not None:
        return locate(given, weights=weights or part != "gpt2")
    usual, hub_name = _USUAL_NAMES[part]
    root = Path(args.checkpoints_root)
    for name in (configured, configured and Path(configured).name, usual):
        if name and (found := find_beside(name, model, root)):
            return found
    if configured is not None:
        return locate(configured)
    without = "" if part == "vision_tower" else ", or do without captions (--no-compensation)"
    raise UserError(
        f"there is no {usual} in {model}, beside it or under {root}: download it there from "
        f"{hub_name} on the Hugging Face hub, or say where it is with "
        f"--{part.replace('_', '-')}{without}"
    )


def placement(args: ModelArguments) -> Placement:
    """Device and dtype as asked for.

    Raises:
        UserError: there is no such device or dtype, or quantised weights cannot be there.
    """
    name = args.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"there is no device {args.device!r} here ({reason}); try --device cpu"
        ) from error
    default = "float32" if device.type == "cpu" else "bfloat16"
    dtype = default if args.dtype == "auto" else args.dtype
    if dtype not in _DTYPES:
        raise UserError(f"there is no dtype {dtype!r}; there are: auto, {', '.join(_DTYPES)}")
    if args.bits is not None:
        check_bits(args.load_4bit, args.load_8bit, device, args.compile, args.device_map)
    return Placement(device, _DTYPES[dtype])


def _clip_tower(
    args: ModelArguments, config: LlavaConfig, folder: Path, own: Tensors, place: Placement
) -> ClipTower:
    """CLIP, its vision weights replaced by the LLaVA checkpoint's own where it has them."""
    tensors = read_checkpoint(folder)
    clip = build_clip(read_config(folder), tensors, str(folder), place)
    layers = clip.config.vision_config.num_hidden_layers
    if not -layers - 1 <= config.select_layer <= layers:
        raise UserError(
            f"{args.model_path} reads layer {config.select_layer} of a tower of {layers} layers"
        )
    if own:
        source = f"{args.model_path} (vision tower)"
        fill(clip.vision_model, own, source, place.dtype, place.device_of)
    post_layernorm = args.patch_post_layernorm
    if post_layernorm is None:
        post_layernorm = config.patch_post_layernorm
    return ClipTower(clip, post_layernorm, config.select_layer)


def load_processor(folder: Path, image_size: int) -> CLIPImageProcessorPil:
    """The image processor of a CLIP folder, by default CLIP's own settings at the tower's size."""
    size = {"height": image_size, "width": image_size}
    with config_errors(f"{folder} (preprocessor_config.json)"):
        if (folder / "preprocessor_config.json").is_file():
            read_json(folder / "preprocessor_config.json")
            processor = CLIPImageProcessorPil.from_pretrained(folder)
        else:
            processor = CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=size)
        made = process_images([Image.new("RGB", (2, 2))], processor, "pad")
        if made.shape != (1, 3, image_size, image_size):
            raise ValueError(f"makes images of {made.shape[-1]} pixels for a tower of {image_size}")
        if not made.isfinite().all():
            raise ValueError("makes pixels that are not finite")
    return processor


def check_vocabulary(tokenizer: Sized, rows: int, folder: Path) -> None:
    """Refuses a tokenizer whose ids go beyond the embedding table.

    Raises:
        UserError: the two are not of the same model.
    """
    if len(tokenizer) > rows:
        raise UserError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens and the model {rows}: they "
            "are not of the same model; fetch the folder again"
        )


def load_caption_model(
    gpt2: Path, weights: Path, embed_dim: int, place: Placement
) -> tuple[CaptionModel, GPT2Tokenizer]:
    """ACCM's caption model and its tokenizer.

    Args:
        gpt2: folder of GPT-2's config and tokenizer.
        weights: ACCM's file.
        embed_dim: P, the projection width of CLIP.
        place: where it goes.

    Raises:
        UserError: a file is missing, damaged or of another model.
    """
    config, tokenizer = read_gpt2(gpt2)
    tensors = read_checkpoint(weights)
    return build_caption_model(config, embed_dim, tensors, str(weights), place), tokenizer


def read_gpt2(folder: Path) -> tuple[dict, GPT2Tokenizer]:
    """Reads GPT-2's config.json and tokenizer.

    Raises:
        UserError: a file is missing, damaged or of another model.
    """
    config = read_config(folder)
    tokenizer = read_bpe(GPT2Tokenizer, folder)
    check_vocabulary(tokenizer, gpt2_config(config, str(folder)).vocab_size, folder)
    return config, tokenizer


def load_long_clip(weights: Path, place: Placement) -> LongClipText:
    """LongCLIP's text tower.

    Raises:
        UserError: the file is missing, damaged or of another model.
    """
    tower = build_long_clip(read_checkpoint(weights), str(weights), place)
    return LongClipText(tower, tower.context_length)


def load_selector(
    weights: Path, long_clip: LongClipText, place: Placement, silence: bool | None = None
) -> Selector:
    """ACCM's selector for LongCLIP's features.

    Args:
        silence: see build_selector.

    Raises:
        UserError: the file is missing, damaged or of another model, or cannot choose silence.
    """
    tensors = read_checkpoint(weights)
    return build_selector(long_clip.embed_dim, tensors, str(weights), place, silence)


def _load_compensator(
    paths: Mapping[str, Path], tower: ClipTower, place: Placement, silence: bool | None
) -> Compensator:
    caption_model, tokenizer = load_caption_model(
        paths["gpt2"], paths["caption_model"], tower.clip.config.projection_dim, place
    )
    long_clip = load_long_clip(paths["longclip"], place)
    selector = load_selector(paths["selector"], long_clip, place, silence)
    return Compensator(caption_model, tokenizer, long_clip, selector)


def load_llm(
    args: ModelArguments, config: LlavaConfig, tensors: Tensors, source: str, place: Placement
) -> LlamaForCausalLM:
    """Llama on one device, or spread over several."""
    if args.bits is not None:
        bits = bits_config(args.load_4bit, place.dtype)
        return load_quantized(config, tensors, source, place, bits)
    llm = empty_llm(config.llm, source)
    if args.device_map is None:
        fill_llm(llm, tensors, source, place.dtype, place.device_of)
        return llm.to(place.device)
    if args.compile:
        raise UserError("--compile works on one device: leave out --compile or --device-map")
    if args.device_map != "auto":
        raise UserError(f"--device-map is {args.device_map!r}; the only choice is auto")
    # The other parts are on their device already, so what is measured is what is left.
    free = get_max_memory()
    room = {d: int(size * (1 if d == "cpu" else GPU_SHARE)) for d, size in free.items()}
    spread = infer_auto_device_map(
        llm, room, no_split_module_classes=["LlamaDecoderLayer"], dtype=place.dtype
    )
    if "disk" in spread.values():
        raise UserError(
            "the LLM does not fit into the memory of the GPUs and the CPU together: use "
            "--dtype bfloat16, a smaller model or a larger machine"
        )
    fill_llm(llm, tensors, source, place.dtype, lambda name: device_in(spread, name))
    return dispatch_model(llm, spread)


def device_in(spread: Mapping[str, int | str], name: str) -> int | str:
    """The device of a parameter in a map of modules to devices; "" stands for the whole model."""
    return next(
        device
        for module, device in spread.items()
        if not module or f"{name}.".startswith(f"{module}.")
    )


def _text_selection(args: ModelArguments, config: LlavaConfig) -> str:
    selection = args.text_selection or config.text_selection
    if selection not in ("farthest", "nearest"):
        raise UserError(f"text_selection is {quoted(selection)}; it must be farthest or nearest")
    return selection
