"""Rows of runs that nobody ran."""

from typing import Any

from tutelage.experiments import Row, find_experiments
from tutelage.experiments.jobs import jobs
from tutelage.experiments.tasks import is_play


def rows_of(*names: str, seeds: int = 3, curves: bool = True) -> list[Row]:
    """Return a row for every run of these claims, each method slower than the one before it.

    The third seed of a method misses its target. Early rows are ``curves=False``.
    """
    rows: dict[str, Row] = {}
    for name in names:
        for place, job in enumerate(
            jobs(name, find_experiments()[name], seeds=seeds, budget="short")
        ):
            rows.setdefault(job.key, row_of(job.task.settings, job.seed, place, curves=curves))
    return list(rows.values())


def row_of(settings: dict[str, Any], seed: int, place: int, *, curves: bool = True) -> Row:
    steps = 10_240 + 1_024 * place
    mean = 20.0 + seed / 10
    row = {
        "seed": seed,
        "settings": settings,
        "env_steps": steps,
        "mean_return": mean,
        "ci95": [mean - 0.5, mean + 0.5],
        "episodes": 2,
        "reward_per_step": 0.0117,
        "returns": [mean - 1.0, mean + 1.0],
        "seconds": 100.0,
        "commit": f"{seed % 2}" * 40,
        "machine": "Linux",
    }
    if is_play(settings):
        return row
    if curves:
        x = list(range(1024, steps + 1, 1024))
        row["curve"] = {"env_steps": x, "rollout/reward_per_step": [i / 1e7 for i in x]}
    passed = None if seed == 3 else steps
    return {
        **row,
        "target_return": settings.get("target_return", 20.0),
        "env_steps_to_target": passed,
    }
