"""How a run ends: the closing evaluation of what was learnt, and ``result.json``."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage import teachers
from tutelage.configs import Distill, Teach
from tutelage.evaluation import evaluate
from tutelage.files import write_json
from tutelage.logs import TARGET, read_metrics, read_timing
from tutelage.selectors import offpolicy
from tutelage.teachers import Model
from tutelage.types import QFunction

Result = dict[str, Any]

KEPT = (
    *("mean_return", "ci95", "min_return", "max_return", "episodes"),
    *("mean_length", "reward_per_step"),
)
"""What a student's card keeps of the evaluation that confirmed it."""


def microseconds_per_action(
    network: QFunction, obs_shape: tuple[int, ...], *, repeats: int = 200
) -> float:
    """Time one observation through a network on one CPU thread; the median, in microseconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    obs = torch.zeros((1, *obs_shape), dtype=torch.uint8)
    times = []
    try:
        with torch.inference_mode():
            for _ in range(repeats):
                began = time.perf_counter()
                network(obs)
                times.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return sorted(times)[repeats // 2] * 1e6


def describe(model: Model, evaluation: Mapping[str, Any]) -> Result:
    """Return a model's figures: its evaluation, its size and its speed."""
    network = model.network
    return {
        **evaluation,
        "parameters": network.num_parameters(),
        "file_bytes": model.path.stat().st_size,
        "us_per_action": microseconds_per_action(network, network.obs_shape),
    }


def close_teaching(config: Teach, folder: Path) -> Result:
    """Evaluate a trained teacher, note it on its card and in ``result.json``."""
    path = folder / "last.safetensors"
    model = teachers.load(str(path))
    figures = evaluate(
        model.network, config, episodes=30, seed=config.seed, threads=config.threads
    ).summary()
    teachers.save(path, model.network, env=model.env, card={**model.card, **figures})
    result = {**describe(model, figures), **_course(folder)}
    write_json(folder / "result.json", {"folder": str(folder), "env": model.env, **result})
    return result


def close_distillation(config: Distill, folder: Path) -> Result:
    """Evaluate student and teacher over the same number of episodes; write ``result.json``.

    ``config`` leaves nothing open. A student that passed is shown with the episodes that confirmed
    it.
    """
    student = teachers.load(str(folder))

    def play(policy: QFunction) -> Mapping[str, Any]:
        return evaluate(
            policy,
            config,
            episodes=config.confirm_episodes,
            seed=config.seed,
            stream="closing",
            threads=config.threads,
        ).summary()

    course = _course(folder, target=config.target_return)
    passed = course[f"{TARGET}{config.target_return:g}"] is not None
    figures = {key: student.card[key] for key in KEPT} if passed else play(student.network)
    result: Result = {
        "folder": str(folder),
        "env": student.env,
        **describe(student, figures),
        **course,
    }
    if not config.dataset:
        name = favourite(folder, config.teachers)
        ensemble, models = teachers.load_teachers(
            [name], device=torch.device("cpu"), seed=config.seed
        )
        (teacher,) = models.values()
        try:
            result["teacher"] = {"name": name, **describe(teacher, play(ensemble.alone(0)))}
        except teachers.TeacherError as failure:
            print(f"warning: teacher {name} is not shown: {failure.reason}", file=sys.stderr)
    write_json(folder / "result.json", result)
    return result


def favourite(folder: Path, names: Sequence[str]) -> str:
    """Return the teacher that was chosen most often, of several; the first if none was paid."""
    path = folder / "selections.jsonl"
    if len(names) == 1 or not path.is_file() or not path.stat().st_size:
        return names[0]
    log = offpolicy.read_log(path)
    return names[int(np.bincount(log.feedback.arm, minlength=len(names)).argmax())]


def _course(folder: Path, *, target: float | None = None) -> Result:
    """Return what the rows say of how the run went."""
    rows, timing = read_metrics(folder), read_timing(folder)
    passed = [int(row["env_steps"]) for row in rows if row.get("eval/passed") == 1.0]
    course: Result = {
        "env_steps": int(rows[-1]["env_steps"]) if rows else 0,
        "seconds": timing[-1]["time/seconds"] if timing else 0.0,
        "evaluation_seconds": timing[-1]["time/evaluation"] if timing else 0.0,
    }
    if target is not None:
        course[f"{TARGET}{target:g}"] = passed[0] if passed else None
    return course
