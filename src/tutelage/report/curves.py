"""The learning curve of a run, readable on a phone and in grey."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.report.style import (
    BLACK,
    BLUE,
    FONT,
    GREY,
    SKY,
    VERMILION,
    blank,
    dress,
    legend,
    write_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, float]]

HEIGHT = 7.2
"""Inches."""


def learning_curve(
    rows: Rows,
    path: Path,
    *,
    title: str,
    teacher_return: float | None = None,
    target: float | None = None,
    closing: Mapping[str, Any] | None = None,
) -> None:
    """Write ``curve_of`` as a PNG; raise UserError if ``path`` cannot be written."""
    figure = curve_of(
        rows, title=title, teacher_return=teacher_return, target=target, closing=closing
    )
    write_png(figure, path)


def curve_of(
    rows: Rows,
    *,
    title: str,
    teacher_return: float | None = None,
    target: float | None = None,
    closing: Mapping[str, Any] | None = None,
) -> "Figure":
    """Draw the rows of a run's ``metrics.jsonl``: return above, distance or loss below.

    ``closing`` has the ``mean_return`` and ``ci95`` of the student that was kept, drawn where it
    was ``kept_at``, or at the end.

    Between them, for a run whose evaluations were abandoned for being out of reach, the reward in
    training: the return above then has few points. Rows may lack any key. The horizontal axis is
    ``env_steps``, or ``updates`` for a run that took no step in an environment.
    """
    abandoned = any("eval/at_most" in row for row in rows)
    figure = blank(title, height=HEIGHT + (2.4 if abandoned else 0.0))
    ratios = (3, 2, 2) if abandoned else (3, 2)
    panels = list(figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios))
    upper, lower = panels[0], panels[-1]
    along = "env_steps" if any(row.get("env_steps") for row in rows) else "updates"
    handles = _returns(upper, rows, along)
    if closing is not None and rows:
        at = closing.get("kept_at") if along == "env_steps" else None
        handles.append(_closing(upper, rows[-1].get(along, 0) if at is None else at, closing))
    played = bool(handles)
    for value, name, style in (
        (teacher_return, "teacher", (0, (6, 3))),
        (target, "target", (0, (1, 2))),
    ):
        if value is not None:
            far = _far(upper, value)
            line = upper.plot([], [])[0] if far else upper.axhline(value)
            number = f"{value:,.4g}".replace("-", "\N{MINUS SIGN}")
            label = f"{name} ({number}{', off the scale' if far else ''})"
            line.set(color=BLACK, linewidth=2.0, linestyle=style, label=label)
            handles.append(line)
    upper.set_ylabel("return per episode", fontsize=FONT)
    if not played:
        _say(upper, "no episode has ended yet", beneath=bool(handles))
    if abandoned:
        x, y = _series(rows, along, "rollout/reward_per_step")
        panels[1].plot(x, [1000.0 * value for value in y], color=SKY, linewidth=2.0)
        panels[1].set_ylabel("reward in training\nper 1,000 env steps", fontsize=FONT)
    _distance_or_loss(lower, rows, along)
    lower.set_xlabel("env steps" if along == "env_steps" else "optimiser steps", fontsize=FONT)
    for axes in panels:
        dress(axes)
        axes.margins(x=0.04)
        axes.set_xlim(left=0.0)
    if handles:
        legend(upper, handles)
    return figure


def _far(axes: "Axes", value: float) -> bool:
    """Return whether ``value`` lies so far from what is drawn that it would make that flat."""
    low, high = axes.get_ylim()
    near = 10.0 * max(abs(low), abs(high))
    return axes.has_data() and not low - near <= value <= high + near


def _closing(axes: "Axes", at: float, closing: Mapping[str, Any]) -> Any:
    """Draw the closing evaluation and return what the legend shows of it."""
    mean, (low, high) = closing["mean_return"], closing["ci95"]
    return axes.errorbar(
        [at],
        [mean],
        yerr=[[abs(mean - low)], [abs(high - mean)]],
        fmt="D",
        color=BLACK,
        markerfacecolor="none",
        markersize=8,
        capsize=4,
        label=f"closing evaluation ({mean:,.4g})".replace("-", "\N{MINUS SIGN}"),
    )


def _series(rows: Rows, along: str, key: str) -> tuple[list[float], list[float]]:
    """Return where ``key`` was recorded and what, without gaps and without NaN."""
    points = [
        (row[along], row[key])
        for row in rows
        if along in row and key in row and math.isfinite(row[key])
    ]
    return [x for x, _ in points], [y for _, y in points]


def _returns(axes: "Axes", rows: Rows, along: str) -> list[Any]:
    """Draw the returns and return what the legend shows of them, in the order of reading."""
    handles: list[Any] = []
    x, y = _series(rows, along, "rollout/ep_rew_mean")
    if x:
        # A single round draws no line, so it is given a marker.
        marker = "." if len(x) == 1 else ""
        led = any(row.get("rollout/teacher_acts") for row in rows)
        label = f"training, {'teacher acting too' if led else 'last 20 episodes'}"
        handles += axes.plot(x, y, color=SKY, linewidth=2.0, marker=marker, label=label)
    x, y = _series(rows, along, "eval/mean_reward")
    if x:
        sides = [
            {row[along]: row[key] for row in rows if along in row and key in row}
            for key in ("eval/ci_low", "eval/ci_high")
        ]
        bars = [
            [abs(side.get(at, mean) - mean) for at, mean in zip(x, y, strict=True)]
            for side in sides
        ]
        few = len(x) <= 40
        style: dict[str, Any] = {"markersize": 7 if few else 3.5, "capsize": 4 if few else 0}
        label = "held-out greedy, 95 % interval"
        handles.append(
            axes.errorbar(
                x, y, yerr=bars, fmt="o", color=VERMILION, elinewidth=1.5, label=label, **style
            )
        )
    x, y = _series(rows, along, "eval/at_most")
    if x:
        label = "abandoned: at most this"
        handles += axes.plot(
            x, y, "v", color=VERMILION, markerfacecolor="none", markersize=7, label=label
        )
    return handles


MEASURES = {
    "regret": "regret\n(in the teacher's values)",
    "relative_probability": "relative probability\nof the student's action",
    "probability": "teacher's probability of\nthe student's action",  # in older runs
    "action_error": "action error\n(share of its range)",
    "agreement": "agreement with teacher\n(fraction of states)",
}
"""What a run says of how far its student is from its teacher, the most telling first."""


def _distance_or_loss(axes: "Axes", rows: Rows, along: str) -> None:
    handles = []
    named = (name for name in MEASURES if any(f"distill/{name}" in row for row in rows))
    measure = next(named, "agreement")
    for key, label, colour in (
        (f"distill/{measure}", "states learnt from", BLUE),
        (f"heldout/{measure}", "held-out states", VERMILION),
    ):
        x, y = _series(rows, along, key)
        if x:
            size = 4 if len(x) <= 60 else 0
            style: dict[str, Any] = {"linewidth": 2.0, "marker": "s", "markersize": size}
            handles += axes.plot(x, y, color=colour, label=label, **style)
    if handles:
        if measure in ("agreement", "relative_probability", "probability"):
            axes.set_ylim(0.0, 1.02)
        else:
            axes.set_ylim(bottom=0.0)
        axes.set_ylabel(MEASURES[measure], fontsize=FONT)
        if len(handles) > 1:
            legend(axes, handles)
        return
    x, y = _series(rows, along, "train/loss")
    axes.set_ylabel("training loss", fontsize=FONT)
    if not x:
        _say(axes, "no optimiser step yet")
        return
    axes.plot(x, y, color=BLUE, linewidth=2.0, marker="." if len(x) == 1 else "")
    # A loss falls by orders of magnitude; over less than one, a log axis has no labelled ticks.
    if min(y) > 0 and max(y) > 20 * min(y):
        axes.set_yscale("log")


def _say(axes: "Axes", text: str, *, beneath: bool = False) -> None:
    """Write where there is nothing to draw: in the middle, or beneath the lines that there are."""
    if beneath:
        low, high = axes.get_ylim()
        axes.set_ylim(2.0 * low - high, high)
    else:
        axes.tick_params(labelleft=False, labelbottom=False)
    axes.text(
        0.5,
        0.25 if beneath else 0.5,
        text,
        ha="center",
        va="center",
        color=GREY,
        fontsize=FONT,
        transform=axes.transAxes,
    )
