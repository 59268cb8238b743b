"""How methods learn, side by side: the reward in training over env steps."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tutelage.report.style import (
    BLUE,
    DASHED,
    FONT,
    GREY,
    STYLES,
    blank,
    dress,
    legend,
    legend_below,
    marked,
    named,
    scale,
    verbatim,
    write_png,
)
from tutelage.types import Floats

Curve = tuple[Sequence[float], Sequence[float]]
"""Env steps, and the reward per env step at each."""

ROUNDS = 5
"""How many points of a curve one that is drawn is the mean of, itself in the middle."""
COLUMNS, PANEL, AROUND, TOGETHER = 2, 1.7, 1.6, 6.4
"""Panels in a row; inches of a panel, of title, legend and labels, and of a single panel."""
CAPTION = (
    f"Reward in training, per 1,000 env steps; each point is the mean of {ROUNDS} rounds. The line "
    "is the mean over seeds, the band reaches from the lowest to the highest. A run that is over "
    "counts on with its last value; the line ends with the last run. At first a teacher may be "
    "acting for the student."
)


def curves_plot(
    curves: Mapping[str, Sequence[Curve]],
    path: Path,
    *,
    title: str,
    teacher: tuple[str, float] | None = None,
) -> None:
    """Draw a line for each method, the mean over seeds, and a band from the lowest to the highest.

    More methods than are told apart in one panel have a panel each, with the first of them, the
    reference, beside it. ``teacher`` is a name and the reward per env step when it plays. See
    ``CAPTION``. Raises ValueError where there is nothing to draw, UserError if ``path`` cannot be
    written.
    """
    if not curves or not all(of and all(x for x, _ in of) for of in curves.values()):
        raise ValueError("curves: expected at least one method, and a seed with a point for each")
    courses = {method: course(of) for method, of in curves.items()}
    if len(courses) <= len(STYLES):
        _together(courses, path, title, teacher)
    else:
        _apart(courses, path, title, teacher)


def course(seeds: Sequence[Curve]) -> tuple[Floats, Floats]:
    """Return env steps ``[S]`` and smoothed rewards ``[N,S]`` of N seeds at each of them."""
    grid = np.unique(np.concatenate([np.asarray(x, float) for x, _ in seeds]))
    # Beyond its last point np.interp holds a curve's last value.
    return grid, np.stack([np.interp(grid, x, smooth(y)) for x, y in seeds])


def smooth(values: Sequence[float]) -> Floats:
    """Return the mean of the ``ROUNDS`` values around each; at the ends, of those there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first = np.maximum(at - ROUNDS // 2, 0)
    end = np.minimum(at + ROUNDS // 2 + 1, len(values))
    return np.asarray((sums[end] - sums[first]) / (end - first))


def _together(
    courses: Mapping[str, tuple[Floats, Floats]],
    path: Path,
    title: str,
    teacher: tuple[str, float] | None,
) -> None:
    figure = blank(title, height=TOGETHER)
    axes = figure.subplots()
    handles = []
    for (method, (x, y)), style in zip(courses.items(), STYLES, strict=False):
        _draw(axes, x, y, marked(style, len(x)))
        handles.append(named(method, style))
    handles += _teacher([axes], teacher)
    dress(axes)
    scale(axes, [x[-1] for x, _ in courses.values()])
    axes.set_xlabel("env steps", fontsize=FONT)
    axes.set_ylabel("reward in training\nper 1,000 env steps", fontsize=FONT)
    legend(axes, handles)
    write_png(figure, path)


def _apart(
    courses: Mapping[str, tuple[Floats, Floats]],
    path: Path,
    title: str,
    teacher: tuple[str, float] | None,
) -> None:
    (reference, first), *_ = courses.items()
    rows = -(-len(courses) // COLUMNS)
    figure = blank(title, height=rows * PANEL + AROUND)
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for axes, (method, (x, y)) in zip(panels, courses.items(), strict=False):
        axes.plot(first[0], 1000.0 * first[1].mean(axis=0), color=GREY, linewidth=1.2)
        _draw(axes, x, y, {"color": BLUE, "linewidth": 2.4})
        axes.set_title(verbatim(textwrap.fill(method, 27)), fontsize=FONT - 1)
    handles = [
        Line2D([], [], color=BLUE, linewidth=2.4, label="as titled"),
        Line2D([], [], color=GREY, linewidth=1.2, label=verbatim(reference)),
        *_teacher(panels[: len(courses)], teacher),
    ]
    for axes in panels:
        dress(axes)
        axes.set_xlim(left=0.0)
    for axes in panels[len(courses) :]:
        axes.set_axis_off()
    for axes in panels[len(courses) - COLUMNS : len(courses)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("env steps", fontsize=FONT)
    figure.supylabel("reward in training per 1,000 env steps", fontsize=FONT)
    legend_below(figure, handles)
    write_png(figure, path)


def _draw(axes: Axes, x: Floats, y: Floats, style: Mapping[str, Any]) -> None:
    thousand = 1000.0 * y
    # A single round draws no line, so it is given a marker.
    marker = {"marker": "o"} if len(x) == 1 else {}
    axes.fill_between(
        x, thousand.min(axis=0), thousand.max(axis=0), color=style["color"], alpha=0.12, linewidth=0
    )
    axes.plot(x, thousand.mean(axis=0), **{**style, **marker})


def _teacher(panels: Sequence[Axes], teacher: tuple[str, float] | None) -> list[Line2D]:
    """Draw the teacher's own rate into each panel; return what the legend shows of it."""
    if teacher is None:
        return []
    name, rate = teacher
    for axes in panels:
        axes.axhline(1000.0 * rate, zorder=1, **DASHED)
    return [Line2D([], [], label=verbatim(f"{name} itself ({1000.0 * rate:.1f})"), **DASHED)]
