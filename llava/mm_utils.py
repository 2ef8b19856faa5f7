"""Images and prompts on their way in: images to pixels, prompts to token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.errors import UserError, quoted
from llava.images import (  # noqa: F401  some of them for who looks for them here, as in LLaVA
    IMAGE_FORMATS,
    MAX_SQUARE_PIXELS,
    check_size,
    load_image,
    to_rgb,
)

# CLIP's mean colour as LLaVA rounds it; what pads an image where no processor says otherwise.
CLIP_BACKGROUND = (122, 116, 104)
# Pixels of a padded square that are there at once while it is scaled: 16 MB.
STRIP_PIXELS = 1 << 22
# Where only the middle of an image is seen, what is further from it than this many times the
# shorter side is cut off before the image is scaled: the whole would grow without bound.
MAX_RATIO = 16


def expand2square(
    image: Image.Image,
    background: tuple[int, ...],
    side: int | None = None,
    resample: int = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Pads an RGB image to a square, the content in the middle (rounded up and to the left).

    Args:
        image: of any size.
        background: the colour beside it.
        side: scales the square to so many pixels a side; None leaves it. Pixels are bit for bit
            those of the whole square resized by Pillow, which goes along the rows first, each of
            them alone, and then along the columns. So the whole square is never built, but strips
            of rows, and those only where the image is.
        resample: one of Pillow's filters.
    """
    width, height = image.size
    longer = max(width, height)
    left, top = (longer - width) // 2, (longer - height) // 2
    if side is None:
        square = Image.new("RGB", (longer, longer), background)
        square.paste(image, (left, top))
        return square
    narrow = Image.new("RGB", (side, longer), background)
    rows = max(1, STRIP_PIXELS // longer)
    for start in range(0, height, rows):
        part = image.crop((0, start, width, min(start + rows, height)))
        strip = Image.new("RGB", (longer, part.height), background)
        strip.paste(part, (left, 0))
        narrow.paste(strip.resize((side, part.height), resample), (0, top + start))
    return narrow.resize((side, side), resample)


def square_view(
    image: Image.Image, processor: CLIPImageProcessorPil, aspect_ratio: str | None, side: int
) -> Image.Image:
    """Returns the square that the tower sees of an RGB image, at so many pixels a side."""
    if aspect_ratio == "pad":
        return expand2square(image, mean_colour(processor), side)
    shorter = min(image.size)
    return ImageOps.fit(image, (shorter, shorter)).resize((side, side))


def mean_colour(processor: CLIPImageProcessorPil) -> tuple[int, ...]:
    """The colour that pads an image: CLIP's mean, rounded down as LLaVA has it."""
    return tuple(int(255 * channel) for channel in processor.image_mean)


def process_images(
    images: list[Image.Image], image_processor: CLIPImageProcessorPil, model_cfg: object
) -> Tensor:
    """Pixels as the tower wants them, bit for bit those of LLaVA's own processor.

    Args:
        images: images of any size; others than RGB are converted.
        image_processor: the Pillow processor; one that resizes tensors moves pixels by grey levels.
        model_cfg: what is done about images that are no squares: "pad" (LLaVA-1.5) pads them with
            the mean colour first; None lets the processor resize the shorter side and cut the
            middle out. Or what has this as its image_aspect_ratio, as LLaVA's model.config.

    Returns:
        (B, 3, S, S) float32, normalised.
    """
    for image in images:
        check_size(image)
    images = [image if image.mode == "RGB" else to_rgb(image) for image in images]
    is_said = model_cfg is None or isinstance(model_cfg, str)
    if (model_cfg if is_said else getattr(model_cfg, "image_aspect_ratio", None)) == "pad":
        colour, size = mean_colour(image_processor), image_processor.size
        side = size.shortest_edge or size.height  # the processor leaves it as it is, then
        images = [expand2square(image, colour, side, image_processor.resample) for image in images]
    else:
        images = [_middle(image) for image in images]
    return image_processor(images, return_tensors="pt")["pixel_values"]


def _middle(image: Image.Image) -> Image.Image:
    """Returns an image without the ends that lie so far out that they are not seen."""
    width, height = (min(edge, MAX_RATIO * min(image.size)) for edge in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def tokenizer_image_token(
    prompt: str,
    tokenizer: Callable[[str], list[int]] | object,
    image_token_index: int = IMAGE_TOKEN_INDEX,
    return_tensors: str | None = None,
) -> list[int] | Tensor:
    """Token ids of a prompt with a number of its own in the place of each ``<image>``.

    The text around the placeholders is encoded piece by piece, so each piece begins with a dummy
    blank of its own, as the model was trained.

    Args:
        prompt: text with any number of ``<image>``.
        tokenizer: the LLM's, or its encode: what gives the ids of a text, the begin-of-text first.
        image_token_index: what stands for an image.
        return_tensors: None, or "pt" for a tensor (L,) int64.

    Raises:
        UserError: another kind of tensor is asked for.
    """
    if return_tensors not in (None, "pt"):
        raise UserError(f"return_tensors is {quoted(return_tensors)}: pt, or leave it out")
    encode = getattr(tokenizer, "encode", tokenizer)
    first, *rest = [encode(piece) for piece in prompt.split(DEFAULT_IMAGE_TOKEN)]
    ids = list(first)
    for piece in rest:
        ids += [image_token_index, *piece[1:]]
    return ids if return_tensors is None else torch.tensor(ids)


def get_model_name_from_path(model_path: str) -> str:
    """Returns what LLaVA calls a model: the last part of its path, and for a checkpoint of a
    training the folder that it is in as well."""
    *before, last = model_path.strip("/").split("/")
    return f"{before[-1]}_{last}" if before and last.startswith("checkpoint-") else last


def send(values: Sequence | Tensor, device: torch.device) -> Tensor:
    """A tensor of numbers on a device. To a GPU they go from pinned memory, so that nobody waits
    until it has done what it was given before."""
    tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def rounds_by_rows(module: nn.Module) -> bool:
    """Tells whether a module's matrix products round by how many rows they have.

    In half precision they do: kernels for one row, for a few and for many add up in different
    orders. On a CPU, where a sample alone is work enough, the answer is to keep samples apart; on a
    GPU that would cost too much.
    """
    weight = next(module.parameters())
    return weight.device.type == "cpu" and weight.dtype != torch.float32


def round_up(number: int, multiple: int) -> int:
    """The next multiple, or the number itself."""
    return -(-number // multiple) * multiple


def pad_left(rows: list[Tensor], multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Stacks sequences of different lengths, padded with zeros on the left.

    Args:
        rows: B tensors (L_b, C) of one dtype.
        multiple: L is rounded up to one of this number.

    Returns:
        (B, L, C) and its mask (B, L) int64, 1 where there is something.
    """
    length = round_up(max(len(row) for row in rows), multiple)
    padded = rows[0].new_zeros(len(rows), length, rows[0].shape[-1])
    for b, row in enumerate(rows):
        padded[b, length - len(row) :] = row
    padding = torch.tensor([length - len(row) for row in rows])
    mask = (torch.arange(length) >= padding[:, None]).long()
    return padded, send(mask, padded.device)
