"""How a run ends: closing evaluations, the table, ``result.json`` and ``report.html``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.configs import build
from tutelage.domains import EnvironmentConfig
from tutelage.errors import UserError
from tutelage.importers import import_model
from tutelage.report import selections
from tutelage.report.blocks import Figure, Film, Table
from tutelage.report.curves import learning_curve
from tutelage.report.page import Section, write_page
from tutelage.report.video import side_by_side
from tutelage.runs import read_config, read_rows
from tutelage.selectors import offpolicy

Result = dict[str, Any]

CURVE = "Learning curve: return per episode above, agreement with the teacher or loss below."


# What a table shows of a player, and what is kept of an evaluation.
SHOWN = ("mean_return", "ci95", "min_return", "max_return", "episodes")


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
        target=None if teaching else config["examination"]["target_return"],
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
        title=f"{result['env']}: teachers by {config['selection']['selector']}, seed {config['seed']}",
    )
    shown = Figure(figure, selections.ALT, selections.CAPTION)
    return [Section("Teachers", [shown, Table("Teachers", selections.picks(log, names))])]


def _film(result: Result, config: Mapping[str, Any], folder: Path, path: Path) -> None:
    models = {"student": import_model(folder)}
    if "teacher" in result:
        name, *_ = result["teacher"]["name"].split("+")
        models = {"teacher": import_model(name), **models}
    settings = build(EnvironmentConfig, config["environment"])
    side_by_side(
        {name: model.policy for name, model in models.items()},
        settings,
        path,
        seed=config["seed"],
    )
