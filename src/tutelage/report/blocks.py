"""What a page is made of: paragraphs, figures, films, tables, and what is folded away."""

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import UserError
from tutelage.report import needs
from tutelage.report.film import first_frame

COLOURS = 32
"""Of a small figure; its lines and letters stay as they are."""


@dataclass(frozen=True)
class Picture:
    """An image as a page holds it."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Figure:
    """An image."""

    png: Path
    alt: str = ""
    """What it shows, for those who do not see it."""
    caption: str = ""
    name: str = ""
    """What links lead to."""
    small: bool = False
    """Keep it at half its size and in few colours: a page may have hundreds."""

    def picture(self) -> Picture:
        """Return the image; raise UserError if the file cannot be read or is no PNG."""
        with needs("report"):
            from PIL import Image, UnidentifiedImageError
        data = _read(self.png)
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                size = image.size
                if self.small:
                    half = (image.width // 2, image.height // 2)
                    small = image.convert("RGB").resize(half, Image.Resampling.BOX)
                    few = small.quantize(COLOURS, dither=Image.Dither.NONE)
                    few.save(smaller := io.BytesIO(), "PNG", optimize=True)
                    data = smaller.getvalue()
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{self.png} is no PNG image") from error
        return Picture(_embed(data, "image/png"), *size)


@dataclass(frozen=True)
class Film:
    """A video."""

    mp4: Path
    caption: str = "Greedy play, every game on the same seed."

    def source(self) -> str:
        """Return the video as a page holds it."""
        return _embed(_read(self.mp4), "video/mp4")

    def poster(self) -> Picture:
        """Return the first frame; raise UserError if the file cannot be read or is no mp4."""
        with needs("report"):
            from PIL import Image
        frame = Image.fromarray(first_frame(_read(self.mp4), str(self.mp4)))
        frame.save(still := io.BytesIO(), "PNG", optimize=True)
        return Picture(_embed(still.getvalue(), "image/png"), *frame.size)


@dataclass(frozen=True)
class Table:
    """Rows that share their keys, the first of which is the row's name."""

    label: str
    """For those who do not see it."""
    rows: Sequence[Mapping[str, Any]]
    prose: bool = False
    """Its cells are words, which break into lines: on a phone they stand one below the other."""

    @property
    def keys(self) -> list[str]:
        """The heads of the columns."""
        return list(self.rows[0])

    @property
    def layout(self) -> str:
        """How a narrow screen shows it: rows become columns where these are few."""
        few = 2 * len(self.rows) <= len(self.keys)
        return "prose" if self.prose else "few" if few else "many"

    @property
    def tracks(self) -> int:
        """How many figures stand below, or beside, each other there."""
        return len(self.keys) - (self.layout != "few")


@dataclass(frozen=True)
class Settings:
    """Names and values; nested ones are shown with dotted names."""

    values: Mapping[str, Any]

    def flat(self) -> Iterator[tuple[str, str]]:
        """Yield each name with its value as text."""
        for key, value in self.values.items():
            if isinstance(value, Mapping):
                yield from ((f"{key}.{name}", text) for name, text in Settings(value).flat())
            elif isinstance(value, str):
                yield key, value
            else:
                yield key, json.dumps(value, default=str, ensure_ascii=False)


@dataclass(frozen=True)
class Details:
    """What is folded away under a line."""

    summary: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Link:
    """A cell that leads to a section or a figure of the page."""

    text: str
    to: str


@dataclass(frozen=True)
class Strong:
    """A cell that matters."""

    text: str


Block = str | Figure | Film | Table | Settings | Details


def plain(value: object) -> str:
    """Return a cell as one reads it: numbers grouped by thousands, with a true minus."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\N{EN DASH}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        whole = isinstance(value, int)
        number = f"{value:,}" if whole else f"{value:,.{1 if abs(value) >= 10 else 2}f}"
        return number.replace("-", "\N{MINUS SIGN}")
    return str(value)


def _embed(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
