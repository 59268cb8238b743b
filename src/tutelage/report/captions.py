"""What stands above a filmed game: a name and a running score."""

from pathlib import Path

import numpy as np

from tutelage.report import needs
from tutelage.text import printable
from tutelage.types import Array

HEIGHT = 40
"""Pixels; even, so that the colours of a game begin on a whole sample of yuv420p."""
MARGIN = 8
LARGEST, SMALLEST = 20, 11
WIDTH = 320
"""Of a game with such a strip; above a wider one everything is as much larger."""
RUNNING = ((23, 27, 33), (240, 240, 240))
OVER = ((240, 240, 240), (23, 27, 33))


class Caption:
    """The strip above one game."""

    def __init__(self, name: str, width: int) -> None:
        """Choose the largest type in which ``name`` and any likely score fit ``width`` pixels."""
        with needs("video"):
            import matplotlib
            from PIL import ImageFont
        larger = max(1.0, width / WIDTH)
        self.height = HEIGHT + 2 * round((larger - 1.0) * HEIGHT / 2)
        self._width, self._margin = width, round(larger * MARGIN)
        name = printable(name)
        # Matplotlib brings a typeface with Greek, Cyrillic and a true minus; Pillow's has none.
        file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
        for size in range(LARGEST, SMALLEST - 1, -1):
            self._font = ImageFont.truetype(str(file), larger * size)
            room = width - 3 * self._margin - self._font.getlength(_score(-1000.0, over=False))
            if self._font.getlength(name) <= room:
                break
        while len(name) > 1 and self._font.getlength(name) > room:
            name = name[:-2] + "…"
        self._name = name

    def draw(self, score: float, *, over: bool) -> Array:
        """Return the strip, ``[height,width,3]`` uint8: dark while the game runs, then light."""
        from PIL import Image, ImageDraw

        ground, ink = OVER if over else RUNNING
        image = Image.new("RGB", (self._width, self.height), ground)
        pen = ImageDraw.Draw(image)
        for text, x, anchor in (
            (self._name, self._margin, "lm"),
            (_score(score, over=over), self._width - self._margin, "rm"),
        ):
            pen.text((x, self.height // 2), text, fill=ink, font=self._font, anchor=anchor)
        return np.asarray(image)


def _score(score: float, *, over: bool) -> str:
    number = f"{score:,.0f}" if score == int(score) else f"{score:,.1f}"
    return f"{'final' if over else 'return'} {number}".replace("-", "\N{MINUS SIGN}")
