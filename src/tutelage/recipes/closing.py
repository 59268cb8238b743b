"""How a run ends: one closing evaluation, and the result that command, Python and sweeps share."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tutelage import models, threads
from tutelage.choice_log import read_log
from tutelage.configs import Teach
from tutelage.domains import EnvironmentConfig, about, as_teacher
from tutelage.evaluation import Evaluation, Note, evaluate
from tutelage.files import write_json
from tutelage.importers import import_model
from tutelage.logs import TARGET, read_metrics, read_timing
from tutelage.model_card import write_card, write_tasks_card
from tutelage.own import Own
from tutelage.policies import Model, Policy
from tutelage.recipes.distilling import Outcome
from tutelage.recipes.multitask import Multitasked
from tutelage.tasks import amend_cards, model_for, read_tasks
from tutelage.teachers import TeacherError, load_teachers

Result = dict[str, Any]
"""What a run came to, as ``result.json`` and ``--json`` have it."""


def close_distillation(outcome: Outcome, *, note: Note = lambda text: None) -> Result:
    """Evaluate student and teacher over as many episodes; write the result and the model card.

    A student that passed is shown with the episodes that confirmed it. Its file's card then says
    the same: the best of several evaluations, which it was kept by, flatters.
    """
    config, folder = outcome.config, outcome.folder
    figures = close_student(outcome, note=note)
    models.amend_card(models.find(folder), _summary(figures))
    best = best_of(outcome)
    result: Result = {
        "folder": str(folder),
        "env": config.environment.env,
        **describe(best, figures),
        **_course(folder),
    }
    result["kept_at"] = best.card.get("env_steps", result["env_steps"])
    if (target := config.examination.target) is not None:
        result[f"{TARGET}{target:g}"] = outcome.passed_at
    name = "" if config.dataset else favourite(folder, config.teachers)
    if name is None:
        result["unpaid"] = list(config.teachers)
    elif name:
        if len(config.teachers) > 1:
            result["paid"] = paid_choices(folder)
        ensemble, loaded = load_teachers(
            [name],
            device=torch.device("cpu"),
            seed=config.seed,
            regions=lambda model: about(config.environment).regions,
            given=outcome.given,
            plays=outcome.plays,
        )
        (teacher,) = loaded.values()
        try:
            theirs = _play(
                outcome,
                ensemble.alone(0),
                as_teacher(config.environment),
                lambda text: note(f"teacher: {text}"),
            )
            result["teacher"] = {"name": name, **describe(teacher, theirs, outcome.teacher_obs)}
        except TeacherError as failure:
            result["teacher_failed"] = f"{name}: {failure.reason}"
    write_json(folder / "result.json", result)
    write_card(folder, result, best)
    return result


def _summary(figures: Result) -> Result:
    """Return the figures of an evaluation without the return of each episode."""
    return {name: value for name, value in figures.items() if name != "returns"}


def best_of(outcome: Outcome) -> Model:
    """Return the student that a run's folder keeps."""
    if isinstance(outcome.student, Own):
        return models.load_own(models.find(outcome.folder), outcome.student.module)
    return import_model(outcome.folder)


def close_student(outcome: Outcome, *, note: Note = lambda text: None) -> Result:
    """Return the figures of the episodes that confirmed the student, or of as many further ones."""
    if outcome.passed_at is not None:
        assert outcome.evaluation is not None
        return outcome.evaluation.figures()
    student = best_of(outcome).policy
    environment = outcome.config.environment
    return _play(outcome, student, environment, lambda text: note(f"student: {text}"))


def _play(outcome: Outcome, policy: Policy, environment: EnvironmentConfig, note: Note) -> Result:
    config, examination = outcome.config, outcome.config.examination
    return evaluate(
        policy,
        environment,
        episodes=examination.confirm_episodes,
        seed=config.seed,
        stream="closing",
        max_steps=examination.eval_max_steps,
        threads=config.threads,
        note=note,
    ).figures()


def close_multitask(outcome: Multitasked, *, note: Note = lambda text: None) -> Result:
    """Evaluate the student in each task over as many episodes as its teacher; write the result."""
    path = outcome.folder / "best.safetensors"
    asked = outcome.config.distill
    network, known = read_tasks(path)
    played: dict[str, Evaluation] = {}
    for task in known:
        name = task.name
        played[name] = evaluate(
            model_for(path, network, task).policy,
            outcome.tasks[name].config.environment,
            episodes=asked.examination.confirm_episodes,
            seed=asked.seed,
            stream="closing",
            max_steps=asked.examination.eval_max_steps,
            threads=asked.threads,
            note=lambda text, name=name: note(f"student, {name}: {text}"),  # type: ignore[misc]
        )
    amend_cards(path, {name: one.summary() for name, one in played.items()})
    tasks: dict[str, Result] = {}
    for task in known:
        name, student = task.name, model_for(path, network, task)
        one, reference = outcome.tasks[name], outcome.references[name]
        teacher = describe(one.model, reference.teacher.figures(), one.envs.teacher_obs[:1])
        tasks[name] = {
            "env": one.config.environment.env,
            **describe(student, played[name].figures()),
            "random_return": reference.random.mean,
            "kept": reference.kept(played[name].mean),
            "teacher": {"name": one.config.teachers[0], **teacher},
        }
    result: Result = {
        "folder": str(outcome.folder),
        "tasks": tasks,
        "kept": float(np.mean([one["kept"] for one in tasks.values()])),
        "parameters": network.num_parameters(),
        "teachers_parameters": sum(one["teacher"]["parameters"] for one in tasks.values()),
        "file_bytes": path.stat().st_size,
        "kept_at": known[0].card["env_steps"],
        **_course(outcome.folder),
    }
    write_json(outcome.folder / "result.json", result)
    write_tasks_card(outcome.folder, result)
    return result


def close_teaching(config: Teach, folder: Path, *, note: Note = lambda text: None) -> Result:
    """Evaluate a trained teacher, note it on its card; write and return the result."""
    path = folder / "last.safetensors"
    model = models.load_network(path)
    played = evaluate(
        model.policy, config.environment, seed=config.seed, threads=config.threads, note=note
    )
    models.amend_card(path, played.summary())
    model = models.load_network(path)
    result = {
        "folder": str(folder),
        "env": config.environment.env,
        **describe(model, played.figures()),
        **_course(folder),
    }
    write_json(folder / "result.json", result)
    write_card(folder, result, model)
    return result


def describe(
    model: Model, evaluation: Mapping[str, Any], obs: npt.NDArray[Any] | None = None
) -> Result:
    """Return a model's figures: its evaluation, its size and its speed on ``obs[1,*O]``."""
    figures: Result = {**evaluation, "parameters": model.parameters}
    if model.path is not None:
        figures["file_bytes"] = model.path.stat().st_size
    if obs is None and model.obs_shape is not None:
        kind = np.uint8 if len(model.obs_shape) > 2 else np.float32
        obs = np.zeros((1, *model.obs_shape), kind)
    if obs is not None:
        figures["us_per_action"] = microseconds_per_action(model.policy, obs)
    return figures


def microseconds_per_action(policy: Policy, obs: npt.NDArray[Any], *, repeats: int = 200) -> float:
    """Time one observation ``obs[1,*O]`` through a policy on the CPU; the median, in microseconds.

    On one thread where the process is ours (see ``threads``).
    """
    seen, carry = torch.from_numpy(obs), policy.initial(1)
    times = []
    with torch.inference_mode(), threads.one_thread():
        for _ in range(repeats):
            began = time.perf_counter()
            policy.head.mode(policy.step(seen, carry)[0])
            times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2] * 1e6


def favourite(folder: Path, names: tuple[str, ...]) -> str | None:
    """Return the teacher whose choices paid best, of several; None if no choice was paid."""
    path = folder / "selections.jsonl"
    if len(names) == 1:
        return names[0]
    if not path.is_file() or not path.stat().st_size:
        return None
    log = read_log(path).feedback
    known = log.arm < len(names)
    arm, reward = log.arm[known], log.reward[known]
    count = np.bincount(arm, minlength=len(names))
    # Under Beta(1 + paid, 1 + missed), so that one lucky choice is not the best.
    mean = (1.0 + np.bincount(arm, reward, minlength=len(names))) / (2.0 + count)
    return names[int(mean.argmax())]


def paid_choices(folder: Path) -> int:
    """Return how many choices of a teacher were paid."""
    return len(read_log(folder / "selections.jsonl").feedback.arm)


def _course(folder: Path) -> Result:
    """Return what the rows say of how the run went."""
    rows, timing = read_metrics(folder), read_timing(folder)
    return {
        "env_steps": int(rows[-1]["env_steps"]) if rows else 0,
        "seconds": timing[-1].get("time/seconds", 0.0) if timing else 0.0,
        "evaluation_seconds": timing[-1].get("time/evaluation", 0.0) if timing else 0.0,
    }
