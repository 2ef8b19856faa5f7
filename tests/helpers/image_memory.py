"""Measures the memory of odd images, for a process whose peak no other test has raised."""

import io
import resource

from PIL import Image
from transformers import CLIPImageProcessorPil

from llava.mm_utils import load_image, process_images, square_view


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main(words):
    """Prints the MB that small files of large images, and long strips, take on top."""
    processor = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=336)
    process_images([Image.new("RGB", (9, 8))], processor, "pad")
    before = peak()
    for size in ((9459, 2600), (2600, 9459)):
        buffer = io.BytesIO()
        Image.new("1", size).save(buffer, "PNG")
        image = load_image(buffer.getvalue(), upright=True)
        process_images([image], processor, "pad")
        square_view(image, processor, "pad", 672)
    for size in ((9459, 1), (1, 9459)):
        process_images([Image.new("1", size)], processor, None)
    print(peak() - before, flush=True)
    return 0
