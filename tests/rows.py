"""Rows of runs that nobody ran, and sweeps that need little time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage import Network, QValues, Size, save
from tutelage.sweeps.jobs import Job, jobs
from tutelage.sweeps.rows import Command, Curve, Row
from tutelage.sweeps.sweep import Sweep

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


class Crew:
    """Runs jobs at once, noting which; those of a method in ``fails`` raise what is there."""

    def __init__(self, **fails: Exception) -> None:
        self.ran: list[tuple[str, int]] = []
        self.fails = fails

    def __call__(self, job: Job, runs: Path) -> Row:
        self.ran.append((job.method, job.seed))
        if job.method in self.fails:
            raise self.fails[job.method]
        return row_of_job(job)


def cartpole_model(path: Path, *, seed: int = 1) -> str:
    """Save a small network that plays CartPole; return what names it."""
    rng = torch.Generator().manual_seed(seed)
    network = Network(Size((), (4,)), (1, 4), QValues(2), generator=rng)
    save(path, network, env="CartPole-v1", card={})
    return str(path)


def toy(**methods: Mapping[str, Any]) -> Sweep:
    """Return a sweep of these methods."""
    return Sweep(name="toy", methods=methods)


def cartpole(folder: Path, **settings: Any) -> dict[str, Any]:
    """Return the settings of a short run of CartPole, whose teacher is saved in ``folder``."""
    quick = {
        "teachers": [cartpole_model(folder / "teacher.safetensors")],
        "student": "mlp:4",
        "env_steps": 256,
        "num_envs": 2,
        "learning_starts": 64,
        "round_steps": 128,
        "precision": "fp32",
        "eval_from": 0,
        "target_return": 20.0,
        "eval_every": 128,
        "eval_episodes": 2,
        "confirm_episodes": 3,
    }
    return {**quick, **settings}


def job_of(settings: Mapping[str, Any], *, seed: int = 1, method: str = "a b: 1/2") -> Job:
    """Return the run of a sweep of one method on one seed."""
    return next(j for j in jobs(toy(**{method: settings}), seeds=seed) if j.seed == seed)


def refusal(run: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """Run what must be refused as bad input; return its one line."""
    with pytest.raises(SystemExit) as exit_:
        run()
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line
