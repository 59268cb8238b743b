"""Which teachers a run chose, how that paid, and what it cost not to know the best one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tutelage.choice_log import Log
from tutelage.errors import UserError
from tutelage.report.style import (
    BLACK,
    BLUE,
    FONT,
    GREY,
    TRACK,
    VERMILION,
    blank,
    dress,
    label_rows,
    legend,
    write_png,
)
from tutelage.types import Floats, Ints, seeded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 40
ROW, GAP = 0.36, 0.12
"""Inches that a teacher's row takes at least, and the part of it that is left empty."""
REGRET, AROUND = 2.4, 2.1
"""Inches of the lower panel, and of titles, legend and labels."""
ALT = "Share of the choices for each teacher over paid segments (or rounds), regret below."
CAPTION = (
    "Above: how often each teacher was chosen, the most chosen first, the best in hindsight in "
    "bold; on the right its share of all choices. Choices come in the order in which they were "
    "paid: those of long episodes come late. Below: the regret against that best teacher, "
    "each being worth the mean of the rewards that were seen of it; what another choice would have "
    "paid in the same place is never seen. Shaded: where uniformly random choice among the "
    "teachers that were tried would be, at any one round, in 95 of 100 runs."
)


def selections_plot(log: Log, names: Sequence[str], path: Path, *, title: str) -> None:
    """Write ``choices_of`` as a PNG; raise UserError as it does, or for ``path``."""
    write_png(choices_of(log, names, title=title), path)


def choices_of(log: Log, names: Sequence[str], *, title: str) -> "Figure":
    """Draw a run's ``selections.jsonl``: picks per teacher above, regret below.

    ``names[K]`` are the teachers in the order of the log's arms. See ``shares`` and ``regret`` for
    what is drawn. Raises UserError for an arm without a name.
    """
    count, mean = _worth(log, len(names))
    rows = max(len(names), 6) * ROW
    figure = blank(title, height=rows + REGRET + AROUND)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(rows, REGRET))
    best = int(np.nanargmax(mean))
    _picks(upper, log, names, count, best)
    _regret(lower, log, len(names))
    for axes in (upper, lower):
        dress(axes)
        axes.margins(x=0.0)
    lower.yaxis.set_major_formatter("{x:,g}")
    lower.locator_params(axis="x", nbins=7, integer=True, min_n_ticks=1)
    lower.set_xlabel("segments (or rounds) that were paid", fontsize=FONT)
    return figure


def _picks(axes: "Axes", log: Log, names: Sequence[str], count: Ints, best: int) -> None:
    """Draw a row for each teacher, the most chosen at the top, filled by its share in each bin."""
    edges, share = shares(log, len(names))
    order = _most_picked_first(count)
    base = np.arange(len(names))[::-1]
    # Among many teachers none may ever have much: a full row is what the largest share needs.
    tenths = math.ceil(10.0 * share.max())
    height = (1.0 - GAP) * share / (tenths / 10.0)
    for arm, low in zip(order, base, strict=True):
        track = np.full(len(height[arm]), low + 1.0 - GAP)
        axes.stairs(track, edges, baseline=low, fill=True, color=TRACK)
        axes.stairs(low + height[arm], edges, baseline=low, fill=True, color=BLUE)
    label_rows(
        axes,
        (base + (1.0 - GAP) / 2.0).tolist(),
        [_shortened(names[arm]) for arm in order],
        [_percent(part) for part in count[order] / count.sum()],
    )
    axes.get_yticklabels()[int(np.flatnonzero(order == best)[0])].set_fontweight("bold")
    axes.set_ylim(-GAP, len(names))
    axes.set_title(f"share of choices (full row: {10 * tenths} %)", fontsize=FONT)


def _regret(axes: "Axes", log: Log, num_arms: int) -> None:
    """Draw the regret of the run and of random choice, from 0 before the first round on."""
    cost = regret(log, num_arms)
    after = np.concatenate([cost.round[:1] - 0.5, cost.round + 0.5])
    run, random, spread = (np.insert(y, 0, 0.0) for y in (cost.run, cost.random, cost.spread))
    band = (np.maximum(random - spread, 0.0), random + spread)
    axes.fill_between(after, *band, color=GREY, alpha=0.2, linewidth=0)
    handles = [
        *axes.plot(after, run, color=VERMILION, linewidth=2.5, label="this run"),
        *axes.plot(
            after,
            random,
            color=BLACK,
            linewidth=2.0,
            linestyle=(0, (6, 3)),
            label="random choice, 95 %",
        ),
    ]
    legend(axes, handles)
    axes.set_ylim(0.0, None if random[-1] > 0.0 else 1.0)
    axes.set_ylabel("cumulative regret by\nsample means (reward)", fontsize=FONT)


def shares(log: Log, num_arms: int) -> tuple[Floats, Floats]:
    """Return ``edges[B+1]``, in rounds, of at most 40 bins and ``share[K,B]`` of their choices.

    A bin is one or more of the rounds that settled a choice, so none is empty; it reaches to the
    next. Raises UserError for an arm that is not below ``num_arms``.
    """
    _check(log, num_arms)
    rounds = np.unique(log.round)
    first = [part[0] for part in np.array_split(rounds, min(BINS, len(rounds)))]
    bins = np.searchsorted(first, log.round, side="right") - 1
    chosen = np.zeros((num_arms, len(first)))
    np.add.at(chosen, (log.feedback.arm, bins), 1.0)
    return np.array([*first, rounds[-1] + 1]) - 0.5, chosen / chosen.sum(axis=0)


@dataclass(frozen=True)
class Regret:
    """Cumulative regret after each round, as a sum of rewards, each of which is in [0, 1]."""

    round: Ints
    """``[R]``, those that settled a choice."""
    run: Floats
    """``[R]``, of the choices that were made."""
    random: Floats
    """``[R]``, what as many uniformly random choices are expected to have."""
    spread: Floats
    """``[R]``, half the width of the 95 % band around ``random`` (normal approximation)."""


def regret(log: Log, num_arms: int) -> Regret:
    """Return the sum over choices of max_k m_k - m_arm, where m_k is the log's mean reward of k.

    The best teacher is the best in hindsight, by these sample means: what another teacher would
    have paid in the same place is never seen. Teachers that were never chosen have no mean and
    take no part, in the random choice neither. Raises UserError for an arm that is not below
    ``num_arms``.
    """
    _, mean = _worth(log, num_arms)
    gap = np.nanmax(mean) - mean
    rounds, unit = np.unique(log.round, return_inverse=True)
    choices = np.bincount(unit).cumsum()
    return Regret(
        rounds,
        np.bincount(unit, gap[log.feedback.arm]).cumsum(),
        choices * np.nanmean(gap),
        1.96 * np.nanstd(gap) * np.sqrt(choices),
    )


def picks(log: Log, names: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a table of teachers, the most chosen first: picks, share, mean reward.

    The interval is a percentile bootstrap (Efron 1979), seeded, of the rounds in which a teacher
    was chosen, since the choices of one round are paid alike; from a single round there is none.
    Raises UserError for an arm without a name.
    """
    count, mean = _worth(log, len(names))
    rows = []
    for arm in _most_picked_first(count):
        interval = _interval(log, int(arm))
        rows.append(
            {
                "teacher": names[arm],
                "paid choices": f"{count[arm]:,}",
                "share": _percent(count[arm] / count.sum()),
                "mean reward": f"{mean[arm]:.3f}" if count[arm] else "\N{EN DASH}",
                "95 % interval": "{:.3f} … {:.3f}".format(*interval) if interval else "\N{EN DASH}",
            }
        )
    return rows


def _interval(log: Log, arm: int) -> tuple[float, float] | None:
    from scipy.stats import bootstrap

    chosen = log.feedback.arm == arm
    rounds, unit = np.unique(log.round[chosen], return_inverse=True)
    if len(rounds) < 2:
        return None
    drawn = bootstrap(
        (np.bincount(unit, log.feedback.reward[chosen]), np.bincount(unit)),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        n_resamples=1000,
        batch=1,  # all at once, a long log would take gigabytes
        method="percentile",
        rng=np.random.default_rng(seeded(0, "bootstrap")),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _check(log: Log, num_arms: int) -> None:
    if (largest := int(log.feedback.arm.max())) >= num_arms:
        raise UserError(f"the log has an arm {largest}, but there are {num_arms} teachers")


def _worth(log: Log, num_arms: int) -> tuple[Ints, Floats]:
    """Return ``count[K]`` of choices and ``mean[K]`` of rewards, NaN where there was none."""
    _check(log, num_arms)
    count = np.bincount(log.feedback.arm, minlength=num_arms)
    total = np.bincount(log.feedback.arm, log.feedback.reward, minlength=num_arms)
    mean = np.full(num_arms, np.nan)
    return count, np.divide(total, count, out=mean, where=count > 0)


def _most_picked_first(count: Ints) -> Ints:
    return np.argsort(-count, kind="stable")


def _shortened(name: str, limit: int = 20) -> str:
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[1 - limit // 2 :]}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"
