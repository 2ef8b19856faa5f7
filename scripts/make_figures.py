"""Draws the pictures of the project: images/example.png, images/scene.png and images/pipeline.png.

    .venv/bin/python scripts/make_figures.py

The kept patches in the last are those that the tiny checkpoints keep in the first. The scene is one
of the mini model's world, picked because at 9 tokens its answer and its caption are right.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from llava.eval.figure import REASON_COLOURS, draw_patches, kept_reasons
from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from llava.model.builder import load_pretrained_model
from llava.model.sample import Sample

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = ROOT / "tests" / "data" / "golden" / "checkpoints"
SCENE = (5, "train", 16)  # seed, split and number
SMOOTHING = 3  # drawn so many times larger, then scaled down

INK, FAINT, PAPER = (30, 34, 40), (120, 126, 135), (255, 255, 255)
BOX, TEXT_BOX = (232, 240, 252), (232, 246, 238)
ARROW = (90, 98, 110)


def draw_example() -> Image.Image:
    """A table with a mug, an apple, two books and a lamp, before a window."""
    s = SMOOTHING
    image = Image.new("RGB", (480 * s, 360 * s), (236, 226, 208))
    draw = ImageDraw.Draw(image)

    def box(x0, y0, x1, y1, fill, outline=None, width=0):
        draw.rectangle((x0 * s, y0 * s, x1 * s, y1 * s), fill, outline, width * s)

    def disc(x, y, rx, ry, fill, outline=None, width=0):
        draw.ellipse(
            ((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill, outline, width * s
        )

    def shape(points, fill):
        draw.polygon([(x * s, y * s) for x, y in points], fill)

    box(40, 30, 190, 180, (150, 200, 236), (250, 248, 240), 8)  # window
    box(111, 30, 119, 180, (250, 248, 240))
    disc(150, 70, 16, 16, (252, 214, 90))
    box(0, 255, 480, 360, (146, 98, 62))  # table
    box(0, 255, 480, 265, (170, 118, 78))
    disc(108, 236, 26, 26, None, (205, 60, 52), 8)  # mug
    box(52, 200, 108, 280, (220, 70, 60))
    disc(80, 200, 28, 8, (120, 44, 38))
    disc(205, 268, 30, 28, (108, 176, 62))  # apple
    shape([(203, 244), (207, 244), (214, 222), (209, 221)], (96, 66, 40))
    disc(226, 230, 13, 6, (70, 140, 50))
    box(262, 262, 372, 284, (44, 92, 160))  # books
    box(270, 240, 362, 262, (236, 170, 52))
    box(280, 246, 352, 250, (250, 236, 200))
    box(416, 150, 424, 276, (70, 74, 82))  # lamp
    disc(420, 278, 34, 8, (70, 74, 82))
    shape([(390, 150), (450, 150), (436, 96), (404, 96)], (250, 206, 96))
    return image.resize((480, 360), Image.LANCZOS)


class Diagram:
    """Boxes and arrows, drawn large and scaled down."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * SMOOTHING, height * SMOOTHING), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def text(self, x: int, y: int, text: str, size: int = 15, fill=INK, anchor: str = "mm") -> None:
        font = ImageFont.load_default(size=size * SMOOTHING)
        place = (x * SMOOTHING, y * SMOOTHING)
        align = "center" if anchor == "mm" else "left"
        self._draw.multiline_text(place, text, fill, font, anchor, spacing=10, align=align)

    def box(self, x: int, y: int, width: int, height: int, title: str, text: str, fill=BOX) -> None:
        corners = [v * SMOOTHING for v in (x, y, x + width, y + height)]
        self._draw.rounded_rectangle(corners, 10 * SMOOTHING, fill, (180, 190, 204), SMOOTHING)
        self.text(x + width // 2, y + 24, title, 17)
        self.text(x + width // 2, y + 24 + (height - 24) // 2, text, 13, FAINT)

    def picture(self, x: int, y: int, picture: Image.Image, side: int) -> None:
        size = (side * SMOOTHING, side * SMOOTHING)
        self._image.paste(picture.resize(size, Image.LANCZOS), (x * SMOOTHING, y * SMOOTHING))

    def arrow(self, *points: tuple[int, int]) -> None:
        """Lines from point to point, a head at the end."""
        scaled = [(x * SMOOTHING, y * SMOOTHING) for x, y in points]
        self._draw.line(scaled, ARROW, 2 * SMOOTHING, joint="curve")
        (x0, y0), (x, y) = scaled[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        back, side = 9 * SMOOTHING, 5 * SMOOTHING
        left = (x - dx * back - dy * side, y - dy * back - dx * side)
        right = (x - dx * back + dy * side, y - dy * back + dx * side)
        self._draw.polygon([(x, y), left, right], ARROW)

    def image(self) -> Image.Image:
        width, height = self._image.size
        return self._image.resize((width // SMOOTHING, height // SMOOTHING), Image.LANCZOS)


def draw_pipeline(model, example: Image.Image) -> Image.Image:
    """The five stages, with the patches that the model keeps of the example."""
    sample = Sample(example, "What is on the table?", visual_token_num=72, max_new_tokens=1)
    (answer,) = model.answer([sample])
    kept = draw_patches(model, example, answer.kept_idx, kept_reasons(answer.selection))
    whole = draw_patches(model, example, list(range(model.tower.num_patches)), {})
    d = Diagram(1180, 470)
    d.picture(20, 60, whole, 200)
    d.text(120, 275, "image", 14, FAINT)
    d.text(120, 385, "“What is on the table?”", 15)
    d.text(120, 408, "question", 14, FAINT)
    d.box(262, 110, 120, 100, "1 encode", "CLIP")
    d.picture(426, 60, kept, 200)
    d.text(526, 35, "2 prune", 17)
    d.text(526, 275, "K of N visual tokens stay:", 14, FAINT)
    for place, reason in enumerate(("question", "attention", "uniform", "random")):
        d.text(437 + 52 * place, 296, reason, 11, REASON_COLOURS[reason])
    d.box(426, 340, 200, 100, "3 compensate", "mapper + GPT-2:\n3 candidate captions", TEXT_BOX)
    d.box(670, 340, 180, 100, "choose", "LongCLIP + selector", TEXT_BOX)
    d.box(670, 110, 180, 100, "4 splice", "kept tokens, caption,\nquestion")
    d.text(760, 275, "“additional information:\n a red mug and two books.”", 13, (18, 118, 72))
    d.box(894, 110, 130, 100, "5 generate", "LLaVA-1.5's LLM")
    d.text(1106, 160, "answer", 17)
    d.arrow((222, 160), (260, 160))
    d.arrow((384, 160), (424, 160))
    d.arrow((628, 160), (668, 160))
    d.arrow((852, 160), (892, 160))
    d.arrow((1026, 160), (1072, 160))
    d.arrow((322, 390), (322, 212))
    d.arrow((222, 390), (424, 390))
    d.arrow((526, 308), (526, 338))
    d.text(536, 323, "the dropped N - K", 12, FAINT, "lm")
    d.arrow((628, 390), (668, 390))
    d.arrow((760, 338), (760, 304))
    d.arrow((760, 246), (760, 212))
    return d.image()


def main() -> None:
    example = draw_example()
    example.save(ROOT / "images" / "example.png")
    scene = draw_scene(make_scene(scene_generator(*SCENE)))
    scene.save(ROOT / "images" / "scene.png")
    _, model, _, _ = load_pretrained_model(
        str(CHECKPOINTS / "llava-v1.5-tiny"),
        gpt2=str(CHECKPOINTS / "gpt2-tiny"),
        checkpoints_root=str(CHECKPOINTS),
        device="cpu",
    )
    draw_pipeline(model, example).save(ROOT / "images" / "pipeline.png")


if __name__ == "__main__":
    main()
