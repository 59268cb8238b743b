"""What a page is made of: paragraphs, figures, films, tables, and what is folded away."""

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import av
from PIL import Image, UnidentifiedImageError

from tutelage.errors import UserError

COLOURS = 32
"""Of a small figure; its lines and letters stay as they are."""


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


@dataclass(frozen=True)
class Film:
    """A video."""

    mp4: Path
    caption: str = "Greedy play, every game on the same seed."


@dataclass(frozen=True)
class Table:
    """Rows that share their keys, the first of which is the row's name."""

    label: str
    """For those who do not see it."""
    rows: Sequence[Mapping[str, Any]]
    prose: bool = False
    """Its cells are words, which break into lines: on a phone they stand one below the other."""


@dataclass(frozen=True)
class Settings:
    """Names and values; nested ones are shown with dotted names."""

    values: Mapping[str, Any]


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


def html_of(block: Block) -> str:
    """Return a block as HTML, escaped; raise UserError for a file that is not what it should be."""
    match block:
        case str():
            return f"<p>{escape(block)}</p>"
        case Figure():
            return _figure(block)
        case Film():
            return _film(block.mp4, block.caption)
        case Table():
            return _table(block)
        case Settings():
            return _settings(block.values)
        case Details():
            inside = "\n".join(html_of(part) for part in block.blocks)
            return f"<details><summary>{escape(block.summary)}</summary>\n{inside}\n</details>"


def _figure(figure: Figure) -> str:
    data = _read(figure.png)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if figure.small:
                data = _shrunk(image)
            width, height = image.size
    except UnidentifiedImageError as error:
        raise UserError(f"{figure.png} is no PNG image") from error
    below = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    name = f' id="{escape(figure.name)}"' if figure.name else ""
    return (
        f'<figure{name}><img class="figure" src="{_embed(data, "image/png")}" '
        f'alt="{escape(figure.alt)}" width="{width}" height="{height}">{below}</figure>'
    )


def _shrunk(image: Image.Image) -> bytes:
    half = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    buffer = io.BytesIO()
    half.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _film(path: Path, caption: str) -> str:
    data = _read(path)
    try:
        with av.open(io.BytesIO(data), mode="r", format="mp4") as container:
            first: Image.Image = next(container.decode(video=0)).to_image()  # type: ignore[no-untyped-call]
    except (av.error.FFmpegError, StopIteration) as error:
        raise UserError(f"{path} is no mp4 video") from error
    still = io.BytesIO()
    first.save(still, "PNG", optimize=True)
    # Phones show nothing of a video before it is started, hence the poster.
    return (
        f'<figure><video controls muted loop playsinline preload="metadata" '
        f'width="{first.width}" height="{first.height}" aria-label="{escape(caption)}" '
        f'style="max-width: {first.width}px" '
        f'poster="{_embed(still.getvalue(), "image/png")}" src="{_embed(data, "video/mp4")}">'
        f"</video><figcaption>{escape(caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    keys = list(table.rows[0])
    # The roles are implied until the narrow layout changes how cells are displayed.
    head = "".join(f'<th role="columnheader" scope="col">{escape(key)}</th>' for key in keys)
    lines = []
    for row in table.rows:
        name, *rest = (_cell(row.get(key)) for key in keys)
        heads = [f' data-head="{escape(key)}"' if table.prose else "" for key in keys[1:]]
        cells = "".join(
            f'<td role="cell"{of}>{value}</td>' for of, value in zip(heads, rest, strict=True)
        )
        lines.append(f'<tr role="row"><th role="rowheader" scope="row">{name}</th>{cells}</tr>')
    few = 2 * len(table.rows) <= len(keys)
    kind, tracks = ("few", len(keys)) if few else ("many", len(keys) - 1)
    kind = "prose" if table.prose else kind
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.label)}">'
        f'<table class="{kind}" role="table" style="--tracks: {tracks}">'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(lines)}</tbody></table></div>'
    )


def _settings(settings: Mapping[str, Any]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
        for key, value in _flat(settings)
    )
    return f'<table class="settings"><tbody>{lines}</tbody></table>'


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield prefix + key, value
        else:
            yield prefix + key, json.dumps(value, default=str, ensure_ascii=False)


def _cell(value: object) -> str:
    match value:
        case Link():
            return f'<a href="#{escape(value.to)}">{escape(value.text)}</a>'
        case Strong():
            return f"<strong>{escape(value.text)}</strong>"
        case _:
            return escape(_plain(value))


def _plain(value: object) -> str:
    """Return a number as one reads it: grouped by thousands, with a true minus."""
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
