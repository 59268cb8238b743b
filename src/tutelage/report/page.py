"""One HTML page that holds everything a run, or many, have to show, and needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tutelage.files import write_atomic
from tutelage.report.blocks import Block, Details, Settings, html_of

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
main.wide { max-width: 68rem; }
.wide p, .wide figcaption { max-width: 44rem; }
h1 { font-size: clamp(1.45rem, 5vw, 2rem); line-height: 1.2; margin: 0 0 0.75rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.75rem; }
p { margin: 0 0 0.75rem; overflow-wrap: anywhere; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.5rem; }
img, video { display: block; width: 100%; height: auto; margin: 0 auto; border-radius: 6px; }
img { max-width: 40rem; }
.wide img, .wide video { margin: 0; }
figure + figure, figure + .scroll, .scroll + figure, figure + p { margin-top: 1.25rem; }
a { color: inherit; text-underline-offset: 0.2em; }
video { background: #000; }
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
.settings th, .settings td { text-align: left; font-weight: 400; vertical-align: top; }
.settings td { font-family: ui-monospace, Menlo, Consolas, monospace; white-space: normal;
  overflow-wrap: anywhere; }
.prose { font-size: 0.9rem; }
.prose th, .prose td { text-align: left; vertical-align: top; white-space: normal; }
.prose tbody th { font-weight: 600; }
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
  /* Cells of words stand one below the other, each beside the head of its column. */
  .prose, .prose tbody { display: block; }
  .prose thead { display: none; }
  .prose tr { display: flex; flex-direction: column; padding: 0.6rem 0;
    border-bottom: 1px solid var(--line); }
  .prose th, .prose td { border-bottom: 0; padding: 0.15rem 0; overflow-wrap: anywhere; }
  .prose tbody th { font-size: 1rem; }
  .prose td { display: grid; grid-template-columns: 6.5rem 1fr; gap: 0.75rem; }
  .prose td::before { content: attr(data-head); color: var(--soft); }
  .prose td:empty { display: none; }
  .prose td:has(strong) { order: 1; }
  .prose td:not(:has(strong)) { order: 2; }
}
"""
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""The browser itself refuses any request that the page might make."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]
    name: str = ""
    """What links lead to."""


def write_page(
    path: Path,
    *,
    title: str,
    sections: Sequence[Section],
    settings: Mapping[str, Any] | None = None,
    text: Sequence[str] = (),
    wide: bool = False,
) -> None:
    """Write one HTML file with everything inside, in the order of ``sections``.

    ``text`` is paragraphs for the top; nested ``settings`` are shown with dotted names. Everything
    is escaped. Raises UserError if an image or a film cannot be read, or ``path`` cannot
    be written.
    """
    body = [f"<h1>{escape(title)}</h1>", *(html_of(paragraph) for paragraph in text)]
    for section in sections:
        name = f' id="{escape(section.name)}"' if section.name else ""
        body.append(f"<h2{name}>{escape(section.title)}</h2>")
        body += [html_of(block) for block in section.blocks]
    if settings:
        body.append(html_of(Details("Settings", [Settings(settings)])))
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
<main{' class="wide"' if wide else ""}>
{content}
</main>
</body>
</html>
"""
    write_atomic(path, page.encode())
