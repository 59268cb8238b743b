"""Claims of a line, runs of CartPole, and jobs that need no time, for the tests of experiments."""

from pathlib import Path
from typing import Any

from tests.test_cli import cartpole_model
from tutelage.configs import Distill, Teach
from tutelage.experiments import Experiment, Row
from tutelage.experiments.jobs import Job
from tutelage.experiments.plots import env_steps
from tutelage.experiments.tasks import Play, Study
from tutelage.experiments.verdicts import reaches


def toy(**methods: dict[str, Any] | Teach | Play) -> Experiment:
    """Return a claim about these methods: that the first reaches its target."""
    return Experiment(
        number="1",
        title="Toy",
        claim="It is a toy.",
        paper="no figure",
        methods=methods,
        judge=reaches(next(iter(methods))),
        plot=env_steps,
    )


def row_of(job: Job, steps: int | None = 1_000) -> Row:
    """Return a row of a job that reached its target, or spent 2,000 env steps in vain."""
    return {
        "seed": job.seed,
        "settings": job.task.settings,
        "env_steps": steps or 2_000,
        "target_return": 20.0,
        "env_steps_to_target": steps,
        "mean_return": 20.5,
        "ci95": [20.0, 21.0],
        "seconds": 1.0,
        "commit": "0123456789",
    }


class Crew:
    """Runs jobs at once, noting which; those of a method in ``fails`` raise what is there."""

    def __init__(self, **fails: Exception) -> None:
        self.ran: list[tuple[str, int]] = []
        self.fails = fails

    def __call__(self, job: Job, runs: Path) -> Row:
        self.ran.append((job.method, job.seed))
        if job.method in self.fails:
            raise self.fails[job.method]
        return row_of(job)


def cartpole_study(folder: Path, **settings: Any) -> Study:
    """Return a short study of CartPole, whose teacher is saved in ``folder``."""
    quick = {
        "teachers": (cartpole_model(folder / "teacher.safetensors"),),
        "student": "mlp:4",
        "env_steps": 256,
        "num_envs": 2,
        "learning_starts": 64,
        "round_steps": 128,
        "threads": 1,
        "precision": "fp32",
        "eval_from": 0,
        "target_return": 20.0,
        "eval_every": 128,
        "eval_episodes": 2,
        "confirm_episodes": 3,
    }
    return Study(Distill(**{**quick, **settings}))
