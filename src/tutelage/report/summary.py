"""What a run came to: the closing table, and ``report.html``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import UserError
from tutelage.logs import TARGET, read_metrics, read_result
from tutelage.report import selections
from tutelage.report.blocks import Figure, Film, Table
from tutelage.report.curves import learning_curve
from tutelage.report.page import Section, write_page
from tutelage.runs import read_config
from tutelage.selectors import offpolicy

CURVE = "Learning curve: return per episode above, agreement with the teacher or loss below."


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


def compare(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the closing table: teacher beside student."""
    players = {"student": result}
    if teacher := result.get("teacher"):
        players = {f"teacher {Path(teacher['name']).name}": teacher, **players}
    return [{"player": name, **cells(of)} for name, of in players.items()]


def headline(result: Mapping[str, Any]) -> str:
    """Say in one line what a distillation came to."""
    (key,) = (key for key in result if key.startswith(TARGET))
    target = key.removeprefix(TARGET)
    took = f"{result['seconds']:.0f} s, {result['evaluation_seconds']:.0f} s of it evaluating"
    if result[key] is None:
        return (
            f"{result['env']}: {target} not reached in {result['env_steps']:,} env steps ({took})"
        )
    return f"{result['env']}: {target} reached after {result[key]:,} env steps ({took})"


def write_report(folder: Path, *, notes: Sequence[str] = ()) -> Path:
    """Draw a run's curve and its choices of teachers; put them, its film and ``notes`` on a page.

    Raises UserError for a folder of no run, one that has no result yet, and damaged files.
    """
    config, result, rows = read_config(folder), read_result(folder), read_metrics(folder)
    curve, film, page = (folder / name for name in ("curve.png", "video.mp4", "report.html"))
    teaching = config["command"] == "teach"
    learning_curve(
        rows,
        curve,
        title=f"{result['env']}: {config['command']}, seed {config['seed']}",
        teacher_return=result["teacher"]["mean_return"] if "teacher" in result else None,
        target=None if teaching else config["target_return"],
    )
    players = [{"player": "teacher", **cells(result)}] if teaching else compare(result)
    sections = [
        Section("Learning curve", [Figure(curve, CURVE)]),
        Section("Comparison", [Table("Comparison", players)]),
    ]
    text = [*([] if teaching else [headline(result)]), *notes]
    try:
        sections += _chosen(f"{result['env']}: teachers by", config, folder)
    except UserError as error:
        text.append(f"No figure of the teachers: {error}")
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


def _chosen(title: str, config: Mapping[str, Any], folder: Path) -> list[Section]:
    """Draw which teachers were chosen, where there was a choice; UserError for a damaged log."""
    path, figure = folder / "selections.jsonl", folder / "selections.png"
    if not path.is_file() or not path.stat().st_size:
        return []
    log, names = offpolicy.read_log(path), config["teachers"]
    title = f"{title} {config['selector']}, seed {config['seed']}"
    selections.selections_plot(log, names, figure, title=title)
    shown = Figure(figure, selections.ALT, selections.CAPTION)
    return [Section("Teachers", [shown, Table("Teachers", selections.picks(log, names))])]
