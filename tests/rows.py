"""Rows of runs that nobody ran."""

from collections.abc import Iterable, Sequence
from typing import Any

from tutelage.sweeps.jobs import Job
from tutelage.sweeps.rows import Command, Curve, Row

BUDGET = 50_000


def row(seed: int = 1, steps: int | None = 1_000, **given: Any) -> Row:
    """Return a row of a run that reached 20 after ``steps``, or spent its budget in vain."""
    values: dict[str, Any] = {
        "methods": (("toy", "a"),),
        "command": Command("distill", {"seed": seed, "teachers": ["pong"]}),
        "files": {},
        "commit": "0123456789",
        "versions": {},
        "machine": "Linux",
        "seconds": 1.0,
        "env_steps": BUDGET if steps is None else steps,
        "target_return": 20.0,
        "env_steps_to_target": steps,
        "mean_return": 20.5,
        "ci95": (20.0, 21.0),
        "min_return": 20.0,
        "max_return": 21.0,
        "episodes": 2,
        "mean_length": 1_700.0,
        "reward_per_step": 0.0117,
    }
    return Row(**{**values, **given})


def study(steps: Iterable[int | None], returns: Sequence[float] = ()) -> list[Row]:
    """Return a row for each seed: env steps to the target, None where the budget was spent."""
    return [
        row(seed, taken, mean_return=returns[seed - 1] if returns else 20.0)
        for seed, taken in enumerate(steps, 1)
    ]


def play(*returns: float) -> list[Row]:
    """Return the row of a model that played these episodes."""
    mean = sum(returns) / len(returns)
    command = Command("evaluate", {"seed": 1, "model": "pong"})
    interval = min(returns), max(returns)
    return [
        row(
            command=command,
            target_return=None,
            env_steps_to_target=None,
            mean_return=mean,
            ci95=interval,
            returns=returns,
        )
    ]


def row_of_job(job: Job, steps: int | None = 1_000, **given: Any) -> Row:
    """Return a row of a job."""
    command, data = job.task.commands(job.seed, job.root)
    played = {"target_return": None} if command.name == "evaluate" else {}
    about: dict[str, Any] = {
        "methods": job.methods,
        "command": command,
        "data": data,
        "files": dict(job.files),
        "commit": job.commit,
        "returns": (20.0, 21.0),
        "curve": None if played else Curve((1_024, 2_048), (-0.01, 0.01)),
        **played,
    }
    return row(job.seed, steps, **{**about, **given})
