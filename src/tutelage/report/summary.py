"""What a run came to: the closing table, and ``report.html``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.choice_log import read_log
from tutelage.configs import Distill, Multitask, Teach
from tutelage.errors import UserError, look_up
from tutelage.logs import TARGET, read_metrics, read_result
from tutelage.report import selections, several
from tutelage.report.blocks import Figure, Film, Table
from tutelage.report.curves import learning_curve
from tutelage.report.page import Section, write_page
from tutelage.runs import read_config
from tutelage.schema import build
from tutelage.text import alike, extremes, without_folders

DASH = "\N{EN DASH}"
NAMED = 3
"""Teachers that a title names."""
CURVE = "Learning curve: return per episode above; below, how far from the teacher, or the loss."


def cells(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of a table for a player's figures."""
    mean, low, high = alike(figures["mean_return"], *figures["ci95"])
    cut = figures.get("cut_episodes")
    shown = {
        "mean return": mean,
        "95 % interval": f"{low} … {high}",
        "min … max": extremes(figures["min_return"], figures["max_return"]),
        "episodes": f"{figures['episodes']}" + (f" ({cut} cut)" if cut else ""),
    }
    if "parameters" in figures:
        # What is no network in a file has no size that is known.
        parameters, size, speed = map(figures.get, ("parameters", "file_bytes", "us_per_action"))
        shown["parameters"] = f"{parameters:,}" if parameters else DASH
        shown["file"] = f"{size / 1e3:,.0f} kB" if size else DASH
        shown["µs/action"] = f"{speed:.0f}" if speed else DASH
    return shown


def compare(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the closing table: teacher beside student."""
    players = {"student": result}
    if teacher := result.get("teacher"):
        players = {f"teacher {without_folders(teacher['name'])}": teacher, **players}
    return [{"player": name, **cells(of)} for name, of in players.items()]


FEW = 30
"""Paid choices, of all teachers together, below which a selector has hardly learnt who is good."""


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Say why the closing table shows no teacher, or how little is known of the one it shows."""
    said = []
    if result.get("paid", FEW) < FEW:
        said.append(
            f"Paid choices among the teachers: {result['paid']}, too few to tell them apart. Let "
            "teachers act for longer (teacher_acts), or cut long episodes (segment_steps)."
        )
    if "teacher_failed" in result:
        said.append(f"The teacher is not shown: {result['teacher_failed']}")
    if names := [*map(without_folders, result.get("unpaid", ()))]:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        said.append(
            f"No choice among the teachers {listed} was paid before the run ended, so none of them "
            "is known to be the best; a longer run would tell."
        )
    return said


def headline(result: Mapping[str, Any]) -> str:
    """Say in one line what a distillation came to."""
    target, reached = next(
        ((key.removeprefix(TARGET), at) for key, at in result.items() if key.startswith(TARGET)),
        ("", None),
    )
    took = f"{result['seconds']:.0f} s, {result['evaluation_seconds']:.0f} s of it evaluating"
    if result.get("kept_at", result["env_steps"]) != result["env_steps"]:
        took += f"; the student is that of env step {result['kept_at']:,}"
    if not target:
        return f"{result['env']}: {result['env_steps']:,} env steps ({took})"
    if reached is None:
        return (
            f"{result['env']}: {target} not reached in {result['env_steps']:,} env steps ({took})"
        )
    return f"{result['env']}: {target} reached after {reached:,} env steps ({took})"


def read_settings(folder: Path) -> Teach | Distill | Multitask:
    """Return a run's configuration; raise UserError if there is none or it does not fit."""
    values, where = read_config(folder), str(folder / "config.toml")
    kinds: dict[str, type[Teach | Distill | Multitask]] = {
        "teach": Teach,
        "distill": Distill,
        "multitask": Multitask,
    }
    try:
        kind = look_up("command", str(values.pop("command", None)), kinds)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    values.pop("files", None)
    return build(kind, values, where=where)


def write_report(folder: Path, *, notes: Sequence[str] = ()) -> Path:
    """Draw a run's curve and its choices of teachers; put them, its film and ``notes`` on a page.

    Raises UserError for a folder of no run, one that has no result yet, and damaged files.
    """
    config = read_settings(folder)
    if isinstance(config, Multitask):
        return several.write_report(folder, notes=notes)
    result, rows = read_result(folder), read_metrics(folder)
    env = result["env"]
    curve, video, page = (folder / name for name in ("curve.png", "video.mp4", "report.html"))
    players = [{"player": "teacher", **cells(result)}]
    text, chosen, target, teacher = [*notes], list[Section](), None, None
    if isinstance(config, Distill):
        players, target = compare(result), config.examination.target
        text.insert(0, headline(result))
        try:
            chosen = _chosen(f"{env}: teachers of {config.student} by", config, folder)
        except UserError as error:
            text.append(f"No figure of the teachers: {error}")
        text += remarks(result)
    if "teacher" in result:
        teacher = result["teacher"]["mean_return"]
    title = titled(config, env)
    learning_curve(
        rows,
        curve,
        title=f"{title}, seed {config.seed}",
        teacher_return=teacher,
        target=target,
        closing=result,
    )
    sections = [
        Section("Learning curve", [Figure(curve, CURVE)]),
        Section("Comparison", [Table("Comparison", players)]),
        *chosen,
    ]
    if video.exists():
        sections.append(Section("Play", [Film(video)]))
    settings = read_config(folder)
    write_page(page, title=title, sections=sections, settings=settings, text=text)
    return page


def titled(config: Teach | Distill, env: str) -> str:
    """Name who learns in a run, from whom, and where."""
    if isinstance(config, Teach):
        return f"{env}: {config.size} by {config.algorithm}"
    names = [*map(without_folders, [config.dataset] if config.dataset else config.teachers)]
    more = len(names) - NAMED
    shown = ", ".join(names[:NAMED]) + f" and {more} more" * (more > 0)
    return f"{env}: {config.student} from {shown}"


def _chosen(title: str, config: Distill, folder: Path) -> list[Section]:
    """Draw which teachers were chosen, where there was a choice; UserError for a damaged log."""
    path, figure = folder / "selections.jsonl", folder / "selections.png"
    if not path.is_file() or not path.stat().st_size:
        return []
    log, names = read_log(path), [*map(without_folders, config.teachers)]
    title = f"{title} {config.selection.selector}, seed {config.seed}"
    selections.selections_plot(log, names, figure, title=title)
    shown = Figure(figure, selections.ALT, selections.CAPTION)
    return [Section("Teachers", [shown, Table("Teachers", selections.picks(log, names))])]
