"""One HTML page that holds everything a run has to show, and needs nothing else."""

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
from tutelage.files import write_atomic

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --soft: #5b6570;
  --line: #dfe3e8; --card: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171b; --ink: #e6e8eb; --soft: #9aa4af; --line: #2d333b; --card: #1b1f25; }
  /* Figures are drawn on white: turned over in lightness they keep their hues. */
  .figure { filter: invert(0.92) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 48rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: clamp(1.45rem, 5vw, 2rem); line-height: 1.2; margin: 0 0 0.75rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.75rem; }
p { margin: 0 0 0.75rem; overflow-wrap: anywhere; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.5rem; }
img, video { display: block; width: 100%; height: auto; border-radius: 6px; }
img { max-width: 40rem; margin: 0 auto; }
figure + .scroll { margin-top: 1.25rem; }
video { background: #000; margin: 0 auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.5rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: bottom; }
thead th { color: var(--soft); font-weight: 500; font-size: 0.9rem; line-height: 1.3; }
th:first-child { text-align: left; padding-left: 0; }
td:last-child, th:last-child { padding-right: 0; }
tbody td { white-space: nowrap; }
details { margin-top: 2.5rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); padding: 0.75rem 1rem; }
summary { cursor: pointer; font-weight: 600; }
details table { margin-top: 0.75rem; font-size: 0.9rem; }
details tr:last-child > * { border-bottom: 0; }
details th, details td { text-align: left; font-weight: 400; vertical-align: top; }
details td { font-family: ui-monospace, Menlo, Consolas, monospace; white-space: normal;
  overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding-top: 1.25rem; }
  /* Rows become columns: few players and many figures each fit a narrow screen upright. */
  .few { display: grid; grid-auto-flow: column;
    grid-template-rows: repeat(var(--tracks), auto); }
  .few thead, .few tbody, .few tr, .many thead, .many tbody, .many tr { display: contents; }
  .few th, .few td { padding: 0.45rem 0 0.45rem 0.75rem; align-self: stretch; }
  .few thead th { text-align: left; padding-left: 0; position: sticky; left: 0;
    background: var(--ground); }
  .few tbody th { text-align: right; font-weight: 600; }
  /* Names stand above their figures: each may be as long as the screen is wide. */
  .many { display: grid; grid-template-columns: repeat(var(--tracks), auto); }
  .many th:first-child { grid-column: 1 / -1; border-bottom: 0; padding: 0.6rem 0 0;
    overflow-wrap: anywhere; }
  .many td:nth-child(2), .many th:nth-child(2) { padding-left: 0; }
}
"""
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""The browser itself refuses any request that the page might make."""


@dataclass(frozen=True)
class Section:
    """A heading, and under it a figure, a table, or both."""

    title: str
    png: Path | None = None
    alt: str = ""
    """What the figure shows, for those who do not see it."""
    caption: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    """The table's; they share their keys, the first of which is the row's name."""


def write_page(
    path: Path,
    *,
    title: str,
    sections: Sequence[Section],
    settings: Mapping[str, Any],
    video_mp4: Path | None = None,
    text: Sequence[str] = (),
    video_caption: str = "Greedy play, every game on the same seed.",
) -> None:
    """Write one HTML file with figures, tables, a film and the settings inside.

    ``text`` is paragraphs for the top; nested ``settings`` are shown with dotted names. Everything
    is escaped. Raises UserError if a PNG or the mp4 cannot be read, or ``path`` cannot be written.
    """
    body = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in text)]
    for section in sections:
        body.append(f"<h2>{escape(section.title)}</h2>")
        if section.png is not None:
            body.append(_figure(section.png, section.alt, section.caption))
        if section.rows:
            body.append(_table(section.title, section.rows))
    if video_mp4 is not None:
        body += ["<h2>Play</h2>", _film(video_mp4, video_caption)]
    if settings:
        body.append(_settings(settings))
    content = "\n".join(body)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{content}
</main>
</body>
</html>
"""
    write_atomic(path, page.encode())


def _figure(path: Path, alt: str, caption: str) -> str:
    data = _read(path)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            width, height = image.size
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is no PNG image") from error
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img class="figure" src="{_embed(data, "image/png")}" alt="{escape(alt)}" '
        f'width="{width}" height="{height}">{below}</figure>'
    )


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


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    keys = list(rows[0])
    # The roles are implied until the narrow layout changes how cells are displayed.
    head = "".join(f'<th role="columnheader" scope="col">{escape(key)}</th>' for key in keys)
    lines = []
    for row in rows:
        name, *rest = (escape(_cell(row.get(key))) for key in keys)
        cells = "".join(f'<td role="cell">{value}</td>' for value in rest)
        lines.append(f'<tr role="row"><th role="rowheader" scope="row">{name}</th>{cells}</tr>')
    kind, tracks = ("few", len(keys)) if 2 * len(rows) <= len(keys) else ("many", len(keys) - 1)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f'<table class="{kind}" role="table" style="--tracks: {tracks}">'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(lines)}</tbody></table></div>'
    )


def _settings(settings: Mapping[str, Any]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
        for key, value in _flat(settings)
    )
    return f"<details><summary>Settings</summary><table><tbody>{lines}</tbody></table></details>"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield prefix + key, value
        else:
            yield prefix + key, json.dumps(value, default=str, ensure_ascii=False)


def _cell(value: object) -> str:
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
