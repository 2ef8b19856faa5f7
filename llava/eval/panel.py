"""Text on a picture: headings, paragraphs, bars and legends, one below the other.

Lines are wrapped here, which Pillow 11 does not do.
"""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
INK, PAPER = (30, 34, 40), (255, 255, 255)
MAX_PARAGRAPH_LINES = 6


class Panel:
    """Lines of text from top to bottom on a canvas that grows.

    Args:
        width: width of the canvas in pixels.
        height: initial height in pixels.
    """

    _BAR_WIDTH = 300

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._canvas = Image.new("RGB", (width, height), PAPER)
        self._font = ImageFont.load_default(size=17)
        self._heading_font = ImageFont.load_default(size=20)
        self.height = 0

    def image(self) -> Image.Image:
        """Returns the picture drawn so far."""
        return self._canvas.crop((0, 0, self._width, self.height))

    def heading(self, text: str, colour: Colour = INK) -> None:
        """Draws a line in larger letters."""
        self._draw(30).text((0, self.height), text, fill=colour, font=self._heading_font)
        self.height += 30

    def text(self, text: str, colour: Colour = INK) -> None:
        """Draws a paragraph, wrapped; a very long one is cut."""
        lines = [piece for line in text.split("\n") for piece in self._wrap(line)]
        if len(lines) > MAX_PARAGRAPH_LINES:
            lines = lines[: MAX_PARAGRAPH_LINES - 1] + [f"... ({len(text)} characters)"]
        for line in lines:
            self._draw(24).text((0, self.height), line, fill=colour, font=self._font)
            self.height += 24

    def _wrap(self, line: str) -> list[str]:
        """Wraps a line at blanks; a word wider than the panel is cut anywhere."""
        pieces = [""]
        for word in line.split(" "):
            longer = f"{pieces[-1]} {word}" if pieces[-1] else word
            if self._font.getlength(longer) <= self._width:
                pieces[-1] = longer
                continue
            pieces.append(word)
            while self._font.getlength(pieces[-1]) > self._width:
                rest = pieces.pop()
                fits = int(len(rest) * self._width / self._font.getlength(rest)) - 1
                while self._font.getlength(rest[:fits]) > self._width:
                    fits -= 1
                pieces += [rest[:fits], rest[fits:]]
        return [piece for piece in pieces if piece] or [""]

    def paragraph(self, title: str, text: str, colour: Colour = INK) -> None:
        """Draws a heading with a paragraph."""
        self.heading(title)
        self.text(text, colour)
        self.gap()

    def swatch(self, colour: Colour, text: str) -> None:
        """Draws a frame in a colour with its meaning."""
        draw, top = self._draw(24), self.height
        draw.rectangle((0, top + 3, 15, top + 18), outline=colour, width=3)
        draw.text((26, top), text, fill=INK, font=self._font)
        self.height += 24

    def bar(self, share: float, colour: Colour, text: str) -> None:
        """Draws a share of 1 as a bar, with a text."""
        draw, top = self._draw(24), self.height
        draw.rectangle((0, top + 5, self._BAR_WIDTH, top + 16), outline=(215, 218, 224))
        draw.rectangle((0, top + 5, max(1, int(self._BAR_WIDTH * share)), top + 16), fill=colour)
        draw.text((self._BAR_WIDTH + 12, top), text, fill=colour, font=self._font)
        self.height += 24

    def gap(self, pixels: int = 14) -> None:
        """Leaves an empty space."""
        self._draw(pixels)
        self.height += pixels

    def _draw(self, room: int) -> ImageDraw.ImageDraw:
        """Returns a pen on a canvas with at least ``room`` pixels below the drawn part."""
        if self.height + room > self._canvas.height:
            grown = Image.new("RGB", (self._width, 2 * (self.height + room)), PAPER)
            grown.paste(self._canvas)
            self._canvas = grown
        return ImageDraw.Draw(self._canvas)
