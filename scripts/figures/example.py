"""images/example.png: a table in front of a window, to try commands with."""

from __future__ import annotations

from PIL import Image, ImageDraw

_FINER = 3  # drawn at this many times the size, then scaled down


def draw_example() -> Image.Image:
    """Draws a table with a mug, an apple, two books and a lamp, in front of a window."""
    s = _FINER
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
