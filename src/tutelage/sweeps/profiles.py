"""How returns are spread: the share of episodes above each return, method by method."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tutelage.report.style import FONT, STYLES, blank, dress, legend, marked, named, write_png
from tutelage.types import Floats

Band = tuple[Floats, Floats, Floats]
"""A share at each return and its interval: share, low, high."""

PANEL = 5.4
"""Inches of a panel."""
CAPTION = (
    "The share of the episodes played that return more than so much, over all seeds of a method; "
    "the pointwise 95 % band is of the episodes of these very networks, others differ by "
    "more. Where a line is never below another, that sample is better throughout."
)


def profiles_plot(returns: Floats, profiles: Mapping[str, Band], path: Path, *, title: str) -> None:
    """Draw a falling line for each method: which share of its episodes is above each return.

    More methods than are told apart in one panel fill further ones below. See ``CAPTION``. Raises
    ValueError where there is nothing to draw, UserError if ``path`` cannot be written.
    """
    if not profiles:
        raise ValueError("profiles: expected at least one method")
    panels = -(-len(profiles) // len(STYLES))
    figure = blank(title, height=PANEL * panels)
    for number, axes in enumerate(figure.subplots(panels, sharex=True, squeeze=False).flat):
        of = list(profiles)[number * len(STYLES) : (number + 1) * len(STYLES)]
        _draw(axes, returns, {method: profiles[method] for method in of})
    write_png(figure, path)


def _draw(axes: Axes, returns: Floats, profiles: Mapping[str, Band]) -> None:
    handles = []
    for (method, (share, low, high)), style in zip(profiles.items(), STYLES, strict=False):
        axes.fill_between(
            returns, low, high, step="post", color=style["color"], alpha=0.12, linewidth=0
        )
        axes.plot(returns, share, drawstyle="steps-post", **marked(style, len(returns)))
        handles.append(named(method, style))
    dress(axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("return", fontsize=FONT)
    axes.set_ylabel("episodes that return more", fontsize=FONT)
    legend(axes, handles)
