"""Returns against env steps and against seconds, method by method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from reproduction.peers.jobs import JOBS, METHODS
from reproduction.peers.page import BESIDE, Entry, entries, mean_of, references
from reproduction.records import Record
from tutelage.report.style import (
    DASHED,
    FONT,
    GREY,
    STYLES,
    blank,
    dress,
    legend_below,
    named,
    write_png,
)

HEIGHT = 9.0
LINES = dict(
    zip(
        (*(name for name in METHODS if name != BESIDE), BESIDE),
        (*STYLES, {**STYLES[0], "color": GREY, "marker": "X", "linestyle": (0, (1, 2))}),
        strict=True,
    )
)
"""A method has the same line in every figure."""
BELOW = 0.15
"""How far below random play the axis reaches, as a share of what the teacher's play is above it."""


def figures(rows: Sequence[Record], tuning: Sequence[Record], folder: Path) -> list[Path]:
    """Draw a figure of each job that has rows, with each method's own settings."""
    drawn = []
    for job in JOBS:
        found = [of for of in entries(job, rows, tuning) if not of.tuned]
        known = references(job, rows)
        if found and set(known) == {"teacher", "random"}:
            drawn.append(folder / f"distillbench-{job}.png")
            draw(job, found, known, drawn[-1])
    return drawn


def draw(job: str, found: Sequence[Entry], known: Mapping[str, float], path: Path) -> None:
    """Draw two panels with a line for each method, the means over seeds, and their intervals."""
    figure = blank(JOBS[job].title, height=HEIGHT)
    panels = figure.subplots(2, 1, sharey=True)
    handles = []
    for of in found:
        style = LINES[of.method]
        budgets = sorted(of.rows)
        means = [mean_of(of.means(budget)) for budget in budgets]
        reach = [one.high - one.middle for one in means]
        bars = np.where(np.isfinite(reach), reach, 0.0)
        for axes, name in zip(panels, ("env_steps", "cpu_seconds"), strict=True):
            x = [float(np.mean([row[name] for row in of.rows[budget]])) for budget in budgets]
            axes.errorbar(
                x, [one.middle for one in means], yerr=bars, elinewidth=1.0, capsize=3, **style
            )
        handles.append(named(of.title, style))
    span = known["teacher"] - known["random"]
    for axes, label in zip(panels, ("env steps", "seconds of one core"), strict=True):
        axes.set_xscale("log")
        dress(axes)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.axhline(known["teacher"], zorder=1, **DASHED)
        axes.set_ylim(known["random"] - BELOW * span, known["teacher"] + BELOW * span)
        axes.set_xlabel(f"{label} (log scale)", fontsize=FONT)
        axes.set_ylabel("return per episode", fontsize=FONT)
    legend_below(figure, handles)
    write_png(figure, path)
