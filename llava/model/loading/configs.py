"""Reads configurations written by other programs: the fields that are used, and valid numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers import CLIPConfig, GPT2Config, PreTrainedConfig

from llava.errors import UserError, quoted, shown
from llava.files import is_there, read_json
from llava.model.loading.foreign import describe_folder

# The largest numbers that a configuration may state. Layers are created one by one, and tables of
# positions are computed, before a shape in the weights could show that they are wrong.
_LARGEST = 1 << 22
_MOST_LAYERS = 1 << 10
_MOST_PATCHES = 1 << 10  # per side of an image

_SIZES = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads n_inner "
    "num_key_value_heads head_dim max_position_embeddings image_size patch_size num_channels "
    "projection_dim"
).split()
_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")

_CHECKPOINT_ENDINGS = (".json", ".txt", ".model", ".safetensors", ".bin")

_CLIP_TOWERS = ("vision_config", "text_config")
# The fields that define a model; other fields are for other programs.
_CLIP_FIELDS = (
    _SIZES
    + (
        "hidden_act layer_norm_eps attention_dropout initializer_range initializer_factor "
        "bos_token_id eos_token_id pad_token_id"
    ).split()
)
_GPT2_FIELDS = (
    "vocab_size n_positions n_embd n_layer n_head n_inner activation_function resid_pdrop "
    "embd_pdrop attn_pdrop layer_norm_epsilon initializer_range scale_attn_weights "
    "scale_attn_by_inverse_layer_idx reorder_and_upcast_attn bos_token_id eos_token_id "
    "hidden_size max_position_embeddings num_attention_heads num_hidden_layers"
).split()


@dataclass(frozen=True)
class CheckpointConfig:
    """The settings in a checkpoint's config.json that are read whatever its family.

    Attributes:
        family: the name of the model family.
        llm: transformers' configuration of the LLM.
        vision_tower: the name of the CLIP checkpoint that it needs; None where it does not say.
    """

    family: str
    llm: PreTrainedConfig
    vision_tower: str | None

    @property
    def has_clip(self) -> bool:
        """Tells whether CLIP is the family's own vision tower."""
        return True


@contextmanager
def config_errors(source: str) -> Iterator[None]:
    """Turns errors that a configuration causes in a library into one that names the checkpoint.

    Raises:
        UserError: replaces any error of the library.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # transformers and torch have no common error for a bad value
        reason = shown(" ".join(str(error).split()) or type(error).__name__)
        raise UserError(
            f"the configuration of {source} has a value that does not fit ({reason}): fetch its "
            "json files again"
        ) from error


def read_config(folder: Path) -> dict:
    """Reads the config.json of a checkpoint's folder.

    Raises:
        UserError: there is none (the message names what the folder holds instead), or it is
            damaged; or a file of the checkpoint is a broken link, which would be mistaken for a
            missing file.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: name the folder of the checkpoint")
    for file in sorted(folder.glob("*")):
        if file.suffix in _CHECKPOINT_ENDINGS and file.is_symlink() and not is_there(file):
            raise UserError(f"{file} is a link to nothing: download the file there")
    if not (folder / "config.json").exists() and (foreign := describe_folder(folder)):
        raise UserError(foreign)
    return read_json(folder / "config.json")


def clip_config(config: dict, source: str) -> CLIPConfig:
    """Returns transformers' configuration of CLIP, both towers, from a config.json.

    Raises:
        UserError: it is not CLIP's, or a value does not fit.
    """
    if not all(isinstance(config.get(tower), dict) for tower in _CLIP_TOWERS):
        raise UserError(
            f"{source} is not a CLIP checkpoint with both towers: its config.json has no "
            "vision_config and text_config"
        )
    with config_errors(source):
        towers = {
            name: picked(config[name], _CLIP_FIELDS)
            for name in (*_CLIP_TOWERS, *[f"{tower}_dict" for tower in _CLIP_TOWERS])
            if config.get(name) is not None
        }
        clip = CLIPConfig(**towers, **picked(config, ["projection_dim"]))
        side = clip.vision_config.image_size // clip.vision_config.patch_size
        if not 1 <= side <= _MOST_PATCHES:
            raise ValueError(f"{side} patches on a side of an image")
    for part in (clip, clip.vision_config, clip.text_config):
        check_numbers(part, source)
    return clip


def gpt2_config(config: dict, source: str) -> GPT2Config:
    """Returns transformers' configuration of GPT-2 from a config.json.

    Raises:
        UserError: a value does not fit.
    """
    with config_errors(source):
        gpt2 = GPT2Config(**picked(config, _GPT2_FIELDS))
    check_numbers(gpt2, source)
    return gpt2


def refuse_quantized(config: dict, source: str, dtypes: str) -> None:
    """Refuses a checkpoint whose weights are quantised.

    Raises:
        UserError: names the dtypes in which it is published.
    """
    if config.get("quantization_config") is not None:
        raise UserError(
            f"{source} is quantised ({quoted(config['quantization_config'])}): fetch the "
            f"checkpoint that it was made from, in {dtypes}"
        )


def check_numbers(config: PreTrainedConfig, source: str) -> None:
    """Refuses numbers that no model has, before memory is allocated for them.

    Raises:
        UserError: a size is not a whole number from 1 to millions, or an epsilon not below 1.
    """
    for name in _SIZES:
        most = _MOST_LAYERS if name == "num_hidden_layers" else _LARGEST
        value = getattr(config, name, None)
        if value is not None and not (type(value) is int and 1 <= value <= most):
            _refuse(source, name, value, f"a whole number from 1 to {most}")
    for name in _EPSILONS:
        value = getattr(config, name, None)
        if value is not None and not 0 <= value < 1:
            _refuse(source, name, value, "from 0 to 1")


def _refuse(source: str, name: str, value: object, wanted: str) -> None:
    raise UserError(
        f"the configuration of {source} has a value that does not fit ({name} is {quoted(value)}, "
        f"and must be {wanted}): fetch its json files again"
    )


def picked(config: dict, fields: Sequence[str]) -> dict:
    """Returns the fields of a configuration that it states."""
    return {name: config[name] for name in fields if config.get(name) is not None}
