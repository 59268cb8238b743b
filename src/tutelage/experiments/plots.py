"""The rows of an experiment as a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tutelage.configs import Distill
from tutelage.experiments import ByMethod, Row
from tutelage.experiments.statistics import performance_profiles
from tutelage.experiments.tasks import is_play
from tutelage.experiments.verdicts import spent
from tutelage.networks import count_parameters, parse_size
from tutelage.report.comparison import Return, env_steps_plot, returns_plot, sizes_plot
from tutelage.report.courses import Curve, curves_plot
from tutelage.report.profiles import profiles_plot

PONG = (4, 84, 84), 6
"""What a network of Pong sees, and how many actions it has."""
TEACHER = count_parameters(parse_size("teacher"), *PONG)


def env_steps(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the env steps to the target of every seed, method by method."""
    runs = {method: spent(of) for method, of in rows.items()}
    env_steps_plot(
        {m: list(zip(of.steps, of.reached, strict=True)) for m, of in runs.items()},
        path,
        title=title,
        target=next(iter(rows.values()))[0]["target_return"],
    )


def returns(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the mean return and its interval of every seed, method by method."""
    returns_plot({m: [_return(row) for row in of] for m, of in rows.items()}, path, title=title)


def sizes(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the mean return of every seed against the number of the student's parameters."""
    all_rows = [row for of in rows.values() for row in of]
    by_size: dict[int, list[Return]] = {}
    for row in all_rows:
        by_size.setdefault(parameters(row), []).append(_return(row))
    target = all_rows[0]["target_return"]
    sizes_plot(by_size, path, title=title, whole=TEACHER, target=target)


def curves(
    rows: ByMethod, path: Path, title: str, *, teacher: tuple[str, float] | None = None
) -> None:
    """Draw the reward in training of every method of which there are curves."""
    curves_plot(
        {method: [_curve(row) for row in of] for method, of in with_curves(rows).items()},
        path,
        title=title,
        teacher=teacher,
    )


def profiles(rows: ByMethod, path: Path, title: str) -> None:
    """Draw which share of episodes is above each return, for every method."""
    scores = episodes(rows)
    every = np.concatenate([x.ravel() for x in scores.values()])
    returns = np.arange(every.min() - 1.0, every.max() + 1.0)
    bands = {
        method: (profile.share, profile.low, profile.high)
        for method, profile in performance_profiles(scores, returns).items()
    }
    profiles_plot(returns, bands, path, title=title)


def episodes(rows: ByMethod) -> dict[str, npt.NDArray[np.float64]]:
    """Return the returns of each method's held-out episodes, ``[episodes, seeds]``.

    Only where a model plays beside: between methods that learn, the seeds are what tells. Early
    rows have only means.
    """
    known = all("returns" in row for of in rows.values() for row in of)
    if not known or not any(is_play(of[0]["settings"]) for of in rows.values()):
        return {}
    return {
        method: np.array([row["returns"] for row in of], np.float64).T
        for method, of in rows.items()
    }


def with_curves(rows: ByMethod) -> dict[str, list[Row]]:
    """Return the rows that have a learning curve, by method; early rows have none."""
    kept = {
        m: [row for row in of if row.get("curve", {}).get("env_steps")] for m, of in rows.items()
    }
    return {method: of for method, of in kept.items() if of}


def played_by_teacher(rows: ByMethod, everything: Sequence[Row]) -> tuple[str, float] | None:
    """Return the first teacher of the first method and its reward per env step, if it has played.

    ``everything`` is the rows of all experiments: another one may have had it play.
    """
    settings = next(iter(rows.values()))[0]["settings"]
    name, *_ = settings.get("teachers", Distill().teachers)
    for row in everything:
        if is_play(row["settings"]):
            play = row["settings"]["play"]
            if play["model"] == name and not play["only"]:
                return name, row["reward_per_step"]
    return None


def parameters(row: Row) -> int:
    """Return how many parameters the student of a row has."""
    return count_parameters(parse_size(row["settings"].get("student", Distill().student)), *PONG)


def _return(row: Row) -> Return:
    low, high = row["ci95"]
    return row["mean_return"], low, high


def _curve(row: Row) -> Curve:
    return row["curve"]["env_steps"], row["curve"]["rollout/reward_per_step"]
