"""Methods side by side: how many env steps each took, seed by seed."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from tutelage.report.style import (
    BLACK,
    BLUE,
    FAINT,
    FONT,
    GREY,
    VERMILION,
    blank,
    dress,
    label_rows,
    legend,
    write_png,
)

ROW, AROUND = 0.75, 2.0
"""Inches of a method's strip, and of title, legend and labels."""
LANES = 0.3
"""How far from the middle of its strip the first and the last seed lie, in strips."""
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


def median(steps: Sequence[float | None]) -> float | None:
    """Return the median of ``steps``, where None took longer than all others; None if it does."""
    middle = float(np.median([math.inf if value is None else value for value in steps]))
    return middle if math.isfinite(middle) else None


def env_steps_plot(
    rows: Mapping[str, Sequence[float | None]],
    path: Path,
    *,
    title: str,
    budget: float,
    target: float = 20.0,
) -> None:
    """Draw a strip for each method, in the order given: env steps to ``target`` and their median.

    ``rows`` holds a number for each seed, None where ``budget`` env steps did not suffice (a hollow
    arrow). Each seed has a lane of its own, the first on top, so that equal numbers stay apart.
    Raises ValueError where there is nothing to draw, UserError if ``path`` cannot be written.
    """
    if not rows or not all(rows.values()):
        raise ValueError("rows: expected at least one method, and a seed for each")
    figure = blank(title, height=len(rows) * ROW + AROUND)
    axes = figure.subplots()
    place = np.arange(len(rows), dtype=float)[::-1]
    for y, steps in zip(place, rows.values(), strict=True):
        lanes = y + (np.linspace(LANES, -LANES, len(steps)) if len(steps) > 1 else np.zeros(1))
        for x, lane in zip(steps, lanes, strict=True):
            axes.plot(budget if x is None else x, lane, **(REACHED if x is not None else MISSED))
        if (middle := median(steps)) is not None:
            axes.vlines(
                middle, y - LANES - 0.1, y + LANES + 0.1, color=BLACK, linewidth=3.0, zorder=1
            )
    axes.axvline(budget, color=GREY, linewidth=1.5, linestyle=(0, (6, 3)), zorder=1)
    dress(axes)
    for y in place[:-1]:
        axes.axhline(y - 0.5, color=FAINT, linewidth=0.8)
    label_rows(
        axes,
        place.tolist(),
        [textwrap.fill(name, 20) for name in rows],
        [_median(steps, budget) for steps in rows.values()],
    )
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xlim(left=0.0)
    axes.set_xlabel(f"env steps to a mean return of {target:g}", fontsize=FONT)
    legend(
        axes,
        [
            Line2D([], [], label="one seed", **REACHED),
            Line2D([], [], label=f"not within {budget:,.0f}", **MISSED),
            Line2D([], [], color=BLACK, linewidth=3.0, label="median, also on the right"),
        ],
    )
    write_png(figure, path)


def returns_plot(
    rows: Mapping[str, Sequence[tuple[float, float, float]]],
    path: Path,
    *,
    title: str,
    target: float | None = None,
) -> None:
    """Draw a strip for each method, in the order given: mean return and interval of every seed.

    ``rows`` holds (mean, low, high) for each seed, each on a lane of its own, the first on top; on
    the right is the mean over seeds. Raises ValueError where there is nothing to draw, UserError if
    ``path`` cannot be written.
    """
    if not rows or not all(rows.values()):
        raise ValueError("rows: expected at least one method, and a seed for each")
    figure = blank(title, height=len(rows) * ROW + AROUND)
    axes = figure.subplots()
    place = np.arange(len(rows), dtype=float)[::-1]
    for y, seeds in zip(place, rows.values(), strict=True):
        lanes = y + (np.linspace(LANES, -LANES, len(seeds)) if len(seeds) > 1 else np.zeros(1))
        for (mean, low, high), lane in zip(seeds, lanes, strict=True):
            axes.hlines(lane, low, high, color=BLUE, linewidth=2.0)
            axes.plot(mean, lane, **REACHED)
    style: dict[str, Any] = {**REACHED, "linestyle": "-", "linewidth": 2.0}
    handles = [Line2D([], [], label="one run, 95 % interval", **style)]
    if target is not None:
        style = {"color": GREY, "linewidth": 1.5, "linestyle": (0, (6, 3))}
        axes.axvline(target, zorder=1, **style)
        handles.append(Line2D([], [], label=f"target ({target:g})", **style))
    dress(axes)
    for y in place[:-1]:
        axes.axhline(y - 0.5, color=FAINT, linewidth=0.8)
    label_rows(
        axes,
        place.tolist(),
        [textwrap.fill(name, 20) for name in rows],
        [f"{np.mean([mean for mean, *_ in seeds]):.1f}" for seeds in rows.values()],
    )
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xlabel("return per episode (mean over seeds on the right)", fontsize=FONT)
    legend(axes, handles)
    write_png(figure, path)


def _median(steps: Sequence[float | None], budget: float) -> str:
    middle = median(steps)
    return f"> {budget:,.0f}" if middle is None else f"{middle:,.0f}"
