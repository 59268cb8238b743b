"""The rows of a sweep as figures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tutelage.sweeps.comparison import Return, env_steps_plot, returns_plot
from tutelage.sweeps.courses import curves_plot
from tutelage.sweeps.judges import ByMethod, spent
from tutelage.sweeps.profiles import profiles_plot
from tutelage.sweeps.rows import Row
from tutelage.sweeps.statistics import profile
from tutelage.types import Floats

MOST = 200
"""Returns at most at which a profile is drawn."""

Plot = Callable[[ByMethod, Path, str], None]
"""Draws the rows into a PNG under a title."""


def env_steps(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the env steps to the target of every seed, method by method."""
    runs = {method: spent(of) for method, of in studied(rows).items()}
    env_steps_plot(
        {m: list(zip(of.steps, of.reached, strict=True)) for m, of in runs.items()},
        path,
        title=title,
        target=target_of(rows),
    )


def returns(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the mean return and its interval of every seed, method by method."""
    returns_plot({m: [mean_of(row) for row in of] for m, of in rows.items()}, path, title=title)


def curves(
    rows: ByMethod, path: Path, title: str, *, teacher: tuple[str, float] | None = None
) -> None:
    """Draw the reward in training of every method of which there are curves."""
    curves_plot(
        {
            method: [(c.env_steps, c.reward_per_step) for row in of if (c := row.curve)]
            for method, of in with_curves(rows).items()
        },
        path,
        title=title,
        teacher=teacher,
    )


def profiles(rows: ByMethod, path: Path, title: str) -> None:
    """Draw which share of episodes is above each return, for every method."""
    scores = episodes(rows)
    every = np.unique(np.concatenate([x.ravel() for x in scores.values()]))
    every = np.concatenate([[every[0] - 1.0], every])
    taus = np.quantile(every, np.linspace(0.0, 1.0, min(len(every), MOST)), method="nearest")
    profiles_plot(taus, {m: profile(x, taus) for m, x in scores.items()}, path, title=title)


def figures(
    rows: ByMethod, title: str, first: Plot, *, teacher: tuple[str, float] | None = None
) -> dict[str, tuple[str, Plot]]:
    """Return what can be drawn: the ending of a file's name -> title and plot, ``first`` first."""
    if not rows:
        return {}

    def with_teacher(of: ByMethod, path: Path, title: str) -> None:
        curves(of, path, title, teacher=teacher)

    found = {"": (title, first)}
    if with_curves(rows):
        found["-curves"] = f"{title}: learning curves", with_teacher
    if episodes(rows):
        found["-profiles"] = f"{title}: returns by episode", profiles
    return found


def draw(found: Mapping[str, tuple[str, Plot]], rows: ByMethod, stem: Path) -> dict[str, Path]:
    """Draw what ``figures`` found into files named as ``stem`` begins; return them by title."""
    drawn = {}
    for ending, (title, plot) in found.items():
        drawn[title] = stem.with_name(f"{stem.name}{ending}.png")
        plot(rows, drawn[title], title)
    return drawn


def studied(rows: ByMethod) -> ByMethod:
    """Return the methods that have a target; models that play have none."""
    return {m: of for m, of in rows.items() if of and of[0].target_return is not None}


def target_of(rows: ByMethod) -> float:
    """Return the target of the first method that has one."""
    target = next(iter(studied(rows).values()))[0].target_return
    assert target is not None
    return target


def episodes(rows: ByMethod) -> dict[str, Floats]:
    """Return the returns of each method's held-out episodes, ``[episodes, seeds]``.

    Only where a model plays beside: between methods that learn, the seeds are what tells. Early
    rows have only means.
    """
    every = [row for of in rows.values() for row in of]
    plays = any(row.command.name == "evaluate" for row in every)
    if not plays or not all(row.returns for row in every):
        return {}
    return {m: np.array([row.returns for row in of], np.float64).T for m, of in rows.items()}


def with_curves(rows: ByMethod) -> dict[str, list[Row]]:
    """Return the rows that have a learning curve, by method; early rows have none."""
    kept = {m: [row for row in of if row.curve and row.curve.env_steps] for m, of in rows.items()}
    return {method: of for method, of in kept.items() if of}


def played_by_teacher(rows: ByMethod, everything: Sequence[Row]) -> tuple[str, float] | None:
    """Return the first teacher of the first method and its reward per env step, if it has played.

    ``everything`` is all rows there are: those of another sweep may have had it play.
    """
    first = next((of[0] for of in rows.values() if of and of[0].command.name == "distill"), None)
    if first is None:
        return None
    content, *_ = first.settings["teachers"]
    name, *_ = first.command.config["teachers"]
    for row in everything:
        of = row.settings
        if row.command.name == "evaluate" and of["model"] == content and not of["only"]:
            return name, row.reward_per_step
    return None


def mean_of(row: Row) -> Return:
    """Return a run's mean return and its interval."""
    return row.mean_return, *row.ci95
