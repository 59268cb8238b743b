"""The runs of a grid: methods x seeds, each known by a digest of what it does."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from tutelage.configs import Distill, Teach, from_mapping
from tutelage.experiments import Experiment, Row, find_experiments
from tutelage.experiments.tasks import DATA, Play, Study, Task, Training
from tutelage.runs import machine, versions


@dataclass(frozen=True)
class Budget:
    """Settings that a budget overrides."""

    study: Mapping[str, Any]
    data: Mapping[str, Mapping[str, Any]]
    """Of each way to make a data set, by its key; a teacher that is trained by itself as well."""
    play: Mapping[str, Any]
    """Of a model that plays, a teacher after its training as well."""


BUDGETS = {
    "smoke": Budget(
        study={
            "env_steps": 256,
            "eval_from": 10**9,
            "round_steps": 128,
            "num_envs": 2,
            "learning_starts": 64,
            "samples_per_step": 4.0,
            "confirm_episodes": 1,
            "measure_episodes": 1,
        },
        data={
            "record": {"env_steps": 256, "num_envs": 2},
            "train": {
                "env_steps": 256,
                "num_envs": 2,
                "round_steps": 128,
                "learning_starts": 64,
                "samples_per_step": 1.0,
                "batch_size": 32,
            },
        },
        play={"episodes": 1},
    ),
    "short": Budget({}, {}, {}),
    "paper": Budget({"env_steps": 250_000}, {}, {}),
}
"""Name -> a look, what settles most claims (50,000 env steps), the paper's own."""


@dataclass(frozen=True)
class Job:
    """One run of a grid."""

    experiment: str
    method: str
    seed: int
    task: Task
    commit: str = "unknown"
    """Of the code that the grid was begun with: a process of it may start hours later."""

    @property
    def key(self) -> str:
        """Return what tells it from every other run."""
        return key(self.task.settings, self.seed)

    def folder(self, runs: Path) -> Path:
        """Return where it leaves its files."""
        name = "".join(c if c.isalnum() else "-" for c in self.method)
        return runs / f"{self.experiment}-{name}-{self.seed}-{self.key}"

    def run(self, runs: Path) -> Row:
        """Do it or go on with it, on one thread; return its row."""
        began = time.perf_counter()
        folder = self.folder(runs)
        row = self.task.run(folder, seed=self.seed)
        return {
            "seed": self.seed,
            "settings": self.task.settings,
            **row,
            "seconds": round(time.perf_counter() - began, 1),
            "commit": self.commit,
            "machine": machine(),
            **find_experiments()[self.experiment].score(folder),
        }


def key(settings: Mapping[str, Any], seed: int) -> str:
    """Return a digest of a run's seed and of the settings that are not the usual ones.

    A setting that is new to ``Distill`` leaves the keys of earlier runs as they are.
    """
    return sha256(json.dumps([seed, settings], sort_keys=True).encode()).hexdigest()[:16]


def jobs(name: str, experiment: Experiment, *, seeds: int, budget: str) -> list[Job]:
    """Return the runs of an experiment, all methods on the first seed before any on the next.

    Only studies are a matter of seeds: a model plays once, and a teacher takes hours to train.
    """
    tasks = {
        method: _task(asked, BUDGETS[budget], where=f"{name}, {method}")
        for method, asked in experiment.methods.items()
    }
    commit = _commit()
    return [
        Job(name, method, seed, task, commit)
        for seed in range(1, seeds + 1)
        for method, task in tasks.items()
        if seed == 1 or isinstance(task, Study)
    ]


@cache
def _commit() -> str:
    commit: str = versions()["commit"]
    return commit


def _task(asked: Mapping[str, Any] | Teach | Play, budget: Budget, *, where: str) -> Task:
    if isinstance(asked, Play):
        return replace(asked, **budget.play)
    if isinstance(asked, Teach):
        taught = replace(asked, **budget.data.get("train", {}), threads=1)
        return Training(taught, **budget.play)
    settings: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in asked.items()}
    data = None
    for name, kind in DATA.items():
        if name in settings:
            values = {**settings.pop(name), **budget.data.get(name, {}), "threads": 1}
            data = from_mapping(kind, values, where=where)
            break  # a second way to make one is left over, and refused below
    config = from_mapping(Distill, {**settings, **budget.study, "threads": 1}, where=where)
    return Study(config, data)
