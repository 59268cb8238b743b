"""What the figures share: their size, type and colours, and how they are written."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.files import write_atomic
from tutelage.report import needs
from tutelage.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH = 6.4
"""Inches; with fonts of 11 points and more, the text stays legible at the width of a phone."""
DPI = 160
FONT = 13.0
# From Okabe and Ito's palette, told apart by lightness too.
SKY, VERMILION, BLUE, BLACK, GREY = "#56B4E9", "#B84300", "#0072B2", "#111111", "#555555"
ORANGE, PINK = "#E69F00", "#CC79A7"
FAINT, TRACK = "#dddddd", "#ececec"
DASHED: dict[str, Any] = {"color": GREY, "linewidth": 1.5, "linestyle": (0, (6, 3))}
"""A line to measure by: a budget, a target, a teacher."""

BOLD: dict[str, Any] = {"linewidth": 2.2, "markersize": 6}
STYLES: tuple[dict[str, Any], ...] = (
    {**BOLD, "color": BLACK, "linestyle": "-", "marker": "o"},
    {**BOLD, "color": BLUE, "linestyle": (0, (5, 2)), "marker": "s"},
    {**BOLD, "color": VERMILION, "linestyle": (0, (2, 1.5)), "marker": "^"},
    {**BOLD, "color": SKY, "linestyle": "-", "marker": "D"},
    {**BOLD, "color": ORANGE, "linestyle": (0, (6, 2, 1, 2)), "marker": "v"},
    {**BOLD, "color": PINK, "linestyle": (0, (1, 1)), "marker": "P"},
)
"""Told apart by line and marker as well as by colour; as many methods share one panel."""
WIDE = 20.0
"""Beyond this ratio of the largest to the smallest, an axis from 0 hides the smaller ones."""
MARKS = 8
"""Markers along a line."""


def blank(title: str, *, height: float) -> "Figure":
    """Return a figure of ``height`` inches with nothing but a title."""
    with needs("report"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    figure.suptitle(verbatim(title), fontsize=FONT + 2, fontweight="bold", wrap=True)
    return figure


def dress(axes: "Axes") -> None:
    """Give a panel its type, its grid, and thousands as k on the horizontal axis."""
    from matplotlib.ticker import EngFormatter

    axes.tick_params(labelsize=FONT - 1)
    axes.grid(visible=True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def scale(axes: "Axes", steps: Sequence[float]) -> None:
    """Let env steps begin at 0, or have a logarithmic axis where they differ very much."""
    from matplotlib.ticker import EngFormatter

    if max(steps) > WIDE * min(steps):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    else:
        axes.set_xlim(left=0.0)


def legend(axes: "Axes", handles: Sequence[Any]) -> None:
    """Put a legend above a panel, where it hides no data."""
    axes.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.45, 1.0),
        ncols=2,
        fontsize=FONT - 2,
        frameon=False,
        handlelength=2.6,
    )


def legend_below(figure: "Figure", handles: Sequence[Any]) -> None:
    """Put one legend for all panels beneath them."""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=2,
        fontsize=FONT - 2,
        frameon=False,
        handlelength=2.6,
    )


def marked(style: Mapping[str, Any], points: int) -> dict[str, Any]:
    """Return the style of a line of so many points, with ``MARKS`` markers or a few more."""
    return {**style, "markevery": max(1, points // MARKS)}


def named(method: str, style: Mapping[str, Any]) -> "Line2D":
    """Return what the legend shows of a method's line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=verbatim(textwrap.fill(method, 24)), **style)


def label_rows(
    axes: "Axes", at: Sequence[float], names: Sequence[str], figures: Sequence[str]
) -> None:
    """Name the rows of a panel, at the heights ``at``, on the left; put figures on the right."""
    beside = axes.secondary_yaxis("right")
    beside.spines["right"].set_visible(False)
    for side, texts in ((axes, names), (beside, figures)):
        side.set_yticks(at, [verbatim(text) for text in texts], fontsize=FONT - 2)
        side.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def write_png(figure: "Figure", path: Path) -> None:
    """Write a figure atomically; raise UserError if ``path`` cannot be written."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    # What is drawn in a few colours takes a third of the bytes with a palette, and looks the same.
    with Image.open(drawn) as image:
        palette = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    palette.save(small, "PNG", optimize=True)
    write_atomic(path, small.getvalue())


def verbatim(text: str) -> str:
    """Return ``text`` so that it is shown as it is: a dollar would begin mathematics."""
    return printable(text, keep="\n").replace("$", r"\$")
