"""Methods side by side: how many env steps each took and what it returns, seed by seed."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from tutelage.report.style import (
    BLACK,
    BLUE,
    DASHED,
    FAINT,
    FONT,
    VERMILION,
    blank,
    dress,
    label_rows,
    legend,
    scale,
    write_png,
)
from tutelage.sweeps.statistics import median

T = TypeVar("T")
Return = tuple[float, float, float]
"""A run's mean return and its interval: mean, low, high."""
Spent = tuple[float, bool]
"""A run's env steps, and whether it reached the target with them."""

ROW, AROUND = 0.75, 2.0
"""Inches of a method's strip, and of title, legend and labels."""
LANES = 0.3
"""How far from the middle of its strip the first and the last seed lie, in strips."""
APART = 0.03
"""How far beside its size the first and the last seed lie, as a share of the axis."""
BESIDE = 1.4
"""How many times the largest size the axis reaches to, and the smallest from."""
REACHED: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 7, "color": BLUE}
MISSED: dict[str, Any] = {
    "marker": ">",
    "linestyle": "none",
    "markersize": 7,
    "color": VERMILION,
    "markerfacecolor": "white",
    "markeredgewidth": 1.8,
    "clip_on": False,
}
BAR: dict[str, Any] = {**REACHED, "elinewidth": 2.0, "capsize": 5, "capthick": 2.0}
WHISKER: dict[str, Any] = {**REACHED, "linestyle": "-", "linewidth": 2.0}


def env_steps_plot(
    rows: Mapping[str, Sequence[Spent]],
    path: Path,
    *,
    title: str,
    target: float = 20.0,
) -> None:
    """Draw a strip for each method, in the order given: env steps to ``target`` and their median.

    A run that missed it is a hollow arrow at the env steps that it spent. Each seed has a lane of
    its own, the first on top, so that equal numbers stay apart. Raises ValueError where there is
    nothing to draw, UserError if ``path`` cannot be written.
    """
    figure, axes, place = _strips(title, rows, _median)
    for y, runs in zip(place, rows.values(), strict=True):
        for (x, reached), lane in zip(runs, _lanes(y, len(runs)), strict=True):
            axes.plot(x, lane, **(REACHED if reached else MISSED))
        if (middle := median(_steps(runs))) is not None:
            axes.vlines(
                middle, y - LANES - 0.1, y + LANES + 0.1, color=BLACK, linewidth=3.0, zorder=1
            )
    handles = [Line2D([], [], label="one seed", **REACHED)]
    if in_vain := {x for runs in rows.values() for x, reached in runs if not reached}:
        for budget in in_vain:
            axes.axvline(budget, zorder=1, **DASHED)
        within = " or ".join(dict.fromkeys(map(_thousands, sorted(in_vain))))
        handles.append(Line2D([], [], label=f"not within {within}", **MISSED))
    median_line = Line2D([], [], color=BLACK, linewidth=3.0, label="median, also on the right")
    scale(axes, [x for runs in rows.values() for x, _ in runs])
    axes.set_xlabel(f"env steps to a mean return of {target:g}", fontsize=FONT)
    legend(axes, [*handles, median_line])
    write_png(figure, path)


def returns_plot(rows: Mapping[str, Sequence[Return]], path: Path, *, title: str) -> None:
    """Draw a strip for each method, in the order given: mean return and interval of every seed.

    Each seed has a lane of its own, the first on top; on the right is the mean over seeds. Raises
    ValueError where there is nothing to draw, UserError if ``path`` cannot be written.
    """
    figure, axes, place = _strips(title, rows, _mean)
    for y, seeds in zip(place, rows.values(), strict=True):
        for (mean, low, high), lane in zip(seeds, _lanes(y, len(seeds)), strict=True):
            axes.errorbar(mean, lane, xerr=_reach(mean, low, high), **BAR)
    axes.margins(x=0.08)
    axes.set_xlabel("return per episode (mean on the right)", fontsize=FONT)
    legend(axes, [Line2D([], [], label="one run, 95 % interval", **WHISKER)])
    write_png(figure, path)


def sizes_plot(
    rows: Mapping[int, Sequence[Return]],
    path: Path,
    *,
    title: str,
    whole: int,
    target: float,
) -> None:
    """Draw the mean return and interval of every seed against the student's parameters.

    ``rows`` holds the seeds of each number of parameters, ``whole`` is the teacher's; the line runs
    through the medians. Raises ValueError where there is nothing to draw, UserError if ``path``
    cannot be written.
    """
    _check(rows)
    sizes = sorted(rows)
    figure = blank(title, height=5.4)
    axes = figure.subplots()
    axes.set_xscale("log")
    least, most = sizes[0] / BESIDE, sizes[-1] * BESIDE
    axes.set_xlim(least, most)
    span = (most / least) ** APART
    for size in sizes:
        seeds = rows[size]
        for x, (mean, low, high) in zip(_beside(size, span, len(seeds)), seeds, strict=True):
            axes.errorbar(x, mean, yerr=_reach(mean, low, high), **BAR)
    middles = [float(np.median([mean for mean, *_ in rows[size]])) for size in sizes]
    axes.plot(sizes, middles, color=BLACK, linewidth=2.0, zorder=1)
    axes.axhline(target, zorder=1, **DASHED)
    dress(axes)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sizes, [f"{_thousands(size)}\n{100 * size / whole:.2g} %" for size in sizes])
    axes.set_xlabel(
        f"parameters of the student (log scale)\nand share of the teacher's {whole:,}",
        fontsize=FONT,
    )
    axes.set_ylabel("return per episode", fontsize=FONT)
    legend(
        axes,
        [
            Line2D([], [], label="one seed, 95 % interval", **WHISKER),
            Line2D([], [], color=BLACK, linewidth=2.0, label="median"),
            Line2D([], [], label=f"target ({target:g})", **DASHED),
        ],
    )
    write_png(figure, path)


def _strips(
    title: str, rows: Mapping[str, Sequence[T]], figure_of: Callable[[Sequence[T]], str]
) -> tuple[Figure, Axes, list[float]]:
    """Return a panel with a strip for each method and its figure beside it, and their middles."""
    _check(rows)
    beside = [figure_of(of) for of in rows.values()]
    figure = blank(title, height=len(rows) * ROW + AROUND)
    axes = figure.subplots()
    place = [float(y) for y in reversed(range(len(rows)))]
    dress(axes)
    for y in place[:-1]:
        axes.axhline(y - 0.5, color=FAINT, linewidth=0.8)
    label_rows(axes, place, [textwrap.fill(name, 20) for name in rows], beside)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    return figure, axes, place


def _check(rows: Mapping[Any, Sequence[Any]]) -> None:
    if not rows or not all(rows.values()):
        raise ValueError("rows: expected at least one method, and a seed for each")


def _lanes(middle: float, count: int) -> list[float]:
    return [middle + LANES * at for at in _spread(count)]


def _beside(size: int, span: float, count: int) -> list[float]:
    return [size / span**at for at in _spread(count)]


def _reach(mean: float, low: float, high: float) -> list[list[float]]:
    """Return how far an interval reaches below and above, as error bars are given."""
    return [[max(0.0, mean - low)], [max(0.0, high - mean)]]


def _spread(count: int) -> list[float]:
    """Return ``count`` places from 1 to -1; one is in the middle."""
    return np.linspace(1.0, -1.0, count).tolist() if count > 1 else [0.0]


def _thousands(count: float) -> str:
    return f"{count / 1000:.{0 if count >= 10_000 else 1}f} k"


def _steps(runs: Sequence[Spent]) -> list[float | None]:
    return [x if reached else None for x, reached in runs]


def _median(runs: Sequence[Spent]) -> str:
    middle = median(_steps(runs))
    return f"> {max(x for x, _ in runs):,.0f}" if middle is None else f"{middle:,.0f}"


def _mean(returns: Sequence[Return]) -> str:
    return f"{np.mean([mean for mean, *_ in returns]):.1f}".replace("-", "\N{MINUS SIGN}")
