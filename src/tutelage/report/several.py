"""What a run of several tasks came to: the closing table, and ``report.html``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.logs import read_metrics, read_tasks_result
from tutelage.report.blocks import Figure, Table
from tutelage.report.page import Section, write_page
from tutelage.report.style import DASHED, FONT, STYLES, blank, dress, legend, write_png
from tutelage.runs import read_config
from tutelage.text import alike, without_folders

CURVE = (
    "How much of the way from random play (0) to its teacher (1) the student has come in each task."
)


def compare(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the closing table: a task each."""
    rows = []
    for name, one in result["tasks"].items():
        mean, low, high = alike(one["mean_return"], *one["ci95"])
        teacher, random = alike(one["teacher"]["mean_return"], one["random_return"])
        rows.append(
            {
                "task": name,
                "student": mean,
                "95 % interval": f"{low} … {high}",
                "teacher": teacher,
                "random": random,
                "kept": f"{one['kept']:.0%}",
                "of": without_folders(one["teacher"]["name"]),
            }
        )
    return rows


def headline(result: Mapping[str, Any]) -> str:
    """Say in one line what a run came to."""
    share = result["parameters"] / max(1, result["teachers_parameters"])
    return (
        f"{len(result['tasks'])} tasks: {result['kept']:.0%} kept on average by "
        f"{result['parameters']:,} parameters ({share:.1%} of the teachers'), "
        f"{result['env_steps']:,} env steps ({result['seconds']:.0f} s, "
        f"{result['evaluation_seconds']:.0f} s of it evaluating)"
    )


def write_report(folder: Path, *, notes: Sequence[str] = ()) -> Path:
    """Draw a run's curves and put them with its table, and ``notes``, on a page.

    Raises UserError for a run that has no result yet, and damaged files.
    """
    result, rows, settings = read_tasks_result(folder), read_metrics(folder), read_config(folder)
    curve, page = folder / "curve.png", folder / "report.html"
    names = list(result["tasks"])
    title = f"{', '.join(names)}: {settings['distill']['student']}"
    kept_curve(rows, names, curve, title=f"{title}, seed {settings['distill']['seed']}")
    sections = [
        Section("Tasks", [Table("Tasks", compare(result))]),
        Section("Learning curve", [Figure(curve, CURVE, CURVE)]),
    ]
    write_page(
        page, title=title, sections=sections, settings=settings, text=[headline(result), *notes]
    )
    return page


def kept_curve(
    rows: Sequence[Mapping[str, float]], names: Sequence[str], path: Path, *, title: str
) -> None:
    """Draw what the student keeps of each task over env steps of all, and how these are shared."""
    figure = blank(title, height=7.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    lines = []
    for i, name in enumerate(names):
        style = STYLES[i % len(STYLES)]
        kept = [row for row in rows if f"{name}/eval/kept" in row]
        lines += upper.plot(
            [row["env_steps"] for row in kept],
            [row[f"{name}/eval/kept"] for row in kept],
            label=name,
            **style,
        )
        played = [row for row in rows if f"{name}/env_steps" in row]
        lower.plot(
            [row["env_steps"] for row in played],
            [row[f"{name}/env_steps"] for row in played],
            **{**style, "marker": ""},
        )
    upper.axhline(1.0, **DASHED)
    upper.set_ylabel("kept of the teacher's return", fontsize=FONT)
    lower.set_ylabel("env steps of the task", fontsize=FONT)
    lower.set_xlabel("env steps of all tasks", fontsize=FONT)
    for axes in (upper, lower):
        dress(axes)
        axes.set_xlim(left=0.0)
    legend(upper, lines)
    write_png(figure, path)
