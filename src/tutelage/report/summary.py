"""How a run ends: closing evaluations, the table, ``result.json`` and ``report.html``."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage import teachers
from tutelage.configs import Distill, Teach
from tutelage.domains.atari import EnvironmentConfig
from tutelage.errors import UserError
from tutelage.evaluation import evaluate
from tutelage.files import write_json
from tutelage.report import selections
from tutelage.report.blocks import Figure, Film, Table
from tutelage.report.curves import learning_curve
from tutelage.report.page import Section, write_page
from tutelage.report.video import side_by_side
from tutelage.runs import read_config, read_rows
from tutelage.selectors import offpolicy
from tutelage.teachers import Model
from tutelage.types import QFunction

Result = dict[str, Any]

CURVE = "Learning curve: return per episode above, agreement with the teacher or loss below."


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
    """Evaluate a trained teacher, note it on its card, and write the report."""
    path = folder / "last.safetensors"
    model = teachers.load(str(path))
    figures = evaluate(
        model.network, config, episodes=30, seed=config.seed, threads=config.threads
    ).summary()
    teachers.save(path, model.network, env=model.env, card={**model.card, **figures})
    result = {**describe(model, figures), **_course(folder)}
    write_json(folder / "result.json", {"folder": str(folder), "env": model.env, **result})
    write_report(folder, video=False)
    return result


def close_distillation(config: Distill, folder: Path) -> Result:
    """Evaluate student and teacher over the same number of episodes and write the report.

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
    passed = course[f"env_steps_to_{config.target_return:g}"] is not None
    figures = {key: student.card[key] for key in FIGURES} if passed else play(student.network)
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
    write_report(folder, video=True)
    return result


def favourite(folder: Path, names: Sequence[str]) -> str:
    """Return the teacher that was chosen most often, of several; the first if none was paid."""
    path = folder / "selections.jsonl"
    if len(names) == 1 or not path.is_file() or not path.stat().st_size:
        return names[0]
    log = offpolicy.read_log(path)
    return names[int(np.bincount(log.feedback.arm, minlength=len(names)).argmax())]


# What a table shows of a player, and what is kept of an evaluation.
SHOWN = ("mean_return", "ci95", "min_return", "max_return", "episodes")
FIGURES = (*SHOWN, "mean_length", "reward_per_step")


def _course(folder: Path, *, target: float | None = None) -> Result:
    """Return what the rows say of how the run went."""
    rows, timing = read_rows(folder), read_rows(folder, "timing.jsonl")
    passed = [int(row["env_steps"]) for row in rows if row.get("eval/passed") == 1.0]
    course: Result = {
        "env_steps": int(rows[-1]["env_steps"]) if rows else 0,
        "seconds": timing[-1]["time/seconds"] if timing else 0.0,
        "evaluation_seconds": timing[-1]["time/evaluation"] if timing else 0.0,
    }
    if target is not None:
        course[f"env_steps_to_{target:g}"] = passed[0] if passed else None
    return course


def cells(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of a table for a player's figures."""
    low, high = figures["ci95"]
    shown = {
        "mean return": f"{figures['mean_return']:.2f}",
        "95 % interval": f"{low:.2f} … {high:.2f}",
        "min … max": f"{figures['min_return']:g} … {figures['max_return']:g}",
        "episodes": f"{figures['episodes']}",
    }
    if "parameters" in figures:
        shown["parameters"] = f"{figures['parameters']:,}"
        shown["file"] = f"{figures['file_bytes'] / 1e3:,.0f} kB"
        shown["µs/action"] = f"{figures['us_per_action']:.0f}"
    return shown


def compare(result: Result) -> list[dict[str, str]]:
    """Return the rows of the closing table: teacher beside student."""
    players = {"student": result}
    if teacher := result.get("teacher"):
        players = {f"teacher {Path(teacher['name']).name}": teacher, **players}
    return [{"player": name, **cells(of)} for name, of in players.items()]


def headline(result: Result) -> str:
    """Say in one line what a distillation came to."""
    (key,) = (key for key in result if key.startswith("env_steps_to_"))
    target = key.removeprefix("env_steps_to_")
    took = f"{result['seconds']:.0f} s, {result['evaluation_seconds']:.0f} s of it evaluating"
    if result[key] is None:
        return (
            f"{result['env']}: {target} not reached in {result['env_steps']:,} env steps ({took})"
        )
    return f"{result['env']}: {target} reached after {result[key]:,} env steps ({took})"


def _read_result(path: Path) -> Result:
    try:
        result = json.loads(path.read_text())
        if not isinstance(result, dict) or not set(SHOWN) <= result.keys():
            raise ValueError(f"it lacks one of {', '.join(SHOWN)}")
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} is damaged ({error}): 'tutelage resume {path.parent}' makes it again"
        ) from error
    return result


def write_report(folder: Path, *, video: bool) -> Path:
    """Draw the curve and the choices of teachers, film the players, put all of it on one page."""
    config = read_config(folder)
    result_path = folder / "result.json"
    if not result_path.is_file():
        raise UserError(
            f"{folder} has no result.json: 'tutelage resume {folder}' goes on with the run, or "
            "closes one that has learnt to its end"
        )
    result = _read_result(result_path)
    curve, film, page = (folder / name for name in ("curve.png", "video.mp4", "report.html"))
    teaching = config["command"] == "teach"
    players = [{"player": "teacher", **cells(result)}] if teaching else compare(result)
    learning_curve(
        read_rows(folder),
        curve,
        title=f"{result['env']}: {config['command']}, seed {config['seed']}",
        teacher_return=result.get("teacher", {}).get("mean_return"),
        target=None if teaching else config["target_return"],
    )
    sections = [
        Section("Learning curve", [Figure(curve, CURVE)]),
        Section("Comparison", [Table("Comparison", players)]),
    ]
    text = [] if teaching else [headline(result)]
    try:
        sections += _chosen(result, config, folder)
    except UserError as error:
        text.append(f"No figure of the teachers: {error}")
    if video:
        try:
            _film(result, config, folder, film)
        except UserError as error:
            text.append(f"No film: {error}")
    if film.exists():
        sections.append(Section("Play", [Film(film)]))
    write_page(
        page,
        title=f"{result['env']}, {config['command']}",
        sections=sections,
        settings=config,
        text=text,
    )
    return page


def _chosen(result: Result, config: Mapping[str, Any], folder: Path) -> list[Section]:
    """Draw which teachers were chosen, where there was a choice; UserError for a damaged log."""
    path, figure = folder / "selections.jsonl", folder / "selections.png"
    if not path.is_file() or not path.stat().st_size:
        return []
    log, names = offpolicy.read_log(path), config["teachers"]
    selections.selections_plot(
        log,
        names,
        figure,
        title=f"{result['env']}: teachers by {config['selector']}, seed {config['seed']}",
    )
    shown = Figure(figure, selections.ALT, selections.CAPTION)
    return [Section("Teachers", [shown, Table("Teachers", selections.picks(log, names))])]


def _film(result: Result, config: Mapping[str, Any], folder: Path, path: Path) -> None:
    players = {"student": teachers.load(str(folder))}
    if "teacher" in result:
        name, *_ = result["teacher"]["name"].split("+")
        players = {"teacher": teachers.load(name), **players}
    environment: EnvironmentConfig = teachers.environment_of(
        players["student"], sticky=config["sticky"]
    )
    side_by_side({n: m.network for n, m in players.items()}, environment, path, seed=config["seed"])
