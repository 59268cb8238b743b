"""One HTML page that holds everything a run, or many, have to show, and needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.files import write_atomic
from tutelage.report import needs
from tutelage.report.blocks import Block, Details, Settings, plain

if TYPE_CHECKING:
    from jinja2 import Template


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

    ``text`` is paragraphs for the top; nested ``settings`` are folded away at the end, with dotted
    names. Everything is escaped. Raises UserError if an image or a film cannot be read, ``path``
    cannot be written, or Jinja2 is missing.
    """
    folded: list[Block] = [Details("Settings", [Settings(settings)])] if settings else []
    page = _template().render(title=title, sections=sections, text=text, folded=folded, wide=wide)
    # A name that is no UTF-8 has lone surrogates, which UTF-8 cannot have.
    write_atomic(path, page.encode(errors="backslashreplace"))


@cache
def _template() -> "Template":
    with needs("report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    templates = Environment(
        loader=PackageLoader("tutelage.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"kind": lambda value: type(value).__name__, "plain": plain}
    return templates.get_template("page.html")
