"""The rows of an experiment as a figure."""

from pathlib import Path

from tutelage.experiments import ByMethod
from tutelage.experiments.verdicts import steps
from tutelage.report.comparison import env_steps_plot, returns_plot


def env_steps(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the env steps to the target of every seed, method by method."""
    env_steps_plot(
        {method: steps(of) for method, of in rows.items()},
        path,
        title=title,
        budget=max(row["env_steps"] for of in rows.values() for row in of),
        target=next(iter(rows.values()))[0]["target_return"],
    )


def returns(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the mean return and its interval of every seed, method by method."""
    returns_plot(
        {m: [(r["mean_return"], *r["ci95"]) for r in of] for m, of in rows.items()},
        path,
        title=title,
    )


def sizes(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the mean return of every seed against the share of the teacher's parameters."""
    returns_plot(
        {m: [(r["mean_return"], *r["ci95"]) for r in of] for m, of in rows.items()},
        path,
        title=title,
        target=next(iter(rows.values()))[0]["target_return"],
    )
