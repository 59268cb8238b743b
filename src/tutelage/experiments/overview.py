"""Everything there is to see of the claims, on one page that needs nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tutelage import teachers
from tutelage.errors import UserError
from tutelage.experiments import ByMethod, Experiment, Row, find_experiments
from tutelage.experiments.document import LEARNING, SPREAD, TERMS, draw, method_cells, verdict_cells
from tutelage.experiments.grid import methods_of
from tutelage.experiments.rows import key_of, short
from tutelage.report.blocks import Block, Details, Figure, Film, Link, Strong, Table
from tutelage.report.curves import learning_curve
from tutelage.report.page import Section, write_page
from tutelage.report.video import side_by_side
from tutelage.runs import read_rows

FILMED = 1000
"""Env steps of a film: half a minute, since there may be one for each claim."""


def write_overview(rows: Sequence[Row], path: Path, *, runs: Path, film: bool = False) -> None:
    """Write the page of all claims: verdicts, figures, methods, and every run.

    A run whose folder is still under ``runs`` is shown with its own learning curve, and its video
    where it has one. With ``film`` there is one for each claim: the student of the first run that
    reached the target. Raises UserError without rows, or if ``path`` cannot be written.
    """
    if not rows:
        raise UserError("no run has a row yet: 'tutelage reproduce NAME' runs a claim")
    found = find_experiments()
    claims = {name: methods_of(name, e, rows) for name, e in found.items()}
    with TemporaryDirectory() as drafts:
        album = Album(runs, Path(drafts))
        sections = [Section("Verdicts", [_verdicts(found, claims)])]
        for name, methods in claims.items():
            experiment = found[name]
            blocks: list[Block] = [experiment.claim, f"The paper: {experiment.paper}."]
            if not methods:
                blocks.append("Not run yet.")
            else:
                blocks += _results(name, experiment, methods, rows, Path(drafts))
                blocks += album.film(methods) if film else []
                blocks.append(album.details(methods))
            sections.append(Section(f"{experiment.number} {experiment.title}", blocks, name))
        write_page(path, title="Reproduction", sections=sections, text=_intro(rows), wide=True)


class Album:
    """The pictures of runs whose folders are still there; each is shown once."""

    def __init__(self, runs: Path, drafts: Path) -> None:
        """Look for folders of runs in ``runs``; draw into ``drafts``."""
        there = sorted(runs.iterdir()) if runs.is_dir() else []
        self._folders = {path.name.rpartition("-")[2]: path for path in there}
        self._drafts = drafts
        self._shown: set[str] = set()

    def film(self, methods: ByMethod) -> list[Block]:
        """Film the student of the first run that reached the target, unless that is done.

        The film is shown with its run; what comes back says why there is none.
        """
        for row in (row for of in methods.values() for row in of):
            folder = self._folders.get(key_of(row))
            if folder is None or row.get("env_steps_to_target") is None:
                continue
            try:
                if not (folder / "video.mp4").exists():
                    student = teachers.load(str(folder))
                    config = teachers.environment_of(student)
                    side_by_side(
                        {"student": student.network},
                        config,
                        folder / "video.mp4",
                        seed=row["seed"],
                        max_steps=FILMED,
                    )
            except UserError as error:
                return [f"No film: {error}"]
            return []
        return ["No film: no run that reached the target has its folder still."]

    def details(self, methods: ByMethod) -> Details:
        """Return every run of a claim: its figures, and the pictures that no claim before shows."""
        lines, pictures = [], list[Block]()
        for method, of in methods.items():
            for row in of:
                name = f"{method}, seed {row['seed']}"
                pictures += self._pictures(row, name)
                lines.append({"run": self._linked(row, name), **_run_cells(row)})
        count = "1 run" if len(lines) == 1 else f"{len(lines)} runs"
        return Details(f"Every run ({count})", [Table("Every run", lines, prose=True), *pictures])

    def _pictures(self, row: Row, name: str) -> list[Block]:
        this = key_of(row)
        folder = self._folders.get(this)
        metrics = [] if folder is None or this in self._shown else read_rows(folder)
        if folder is None or not metrics:
            return []
        self._shown.add(this)
        curve = self._drafts / f"run-{this}.png"
        learning_curve(metrics, curve, title=name, target=row.get("target_return"))
        pictures: list[Block] = [
            Figure(curve, f"Learning curve: {name}", "", curve.stem, small=True)
        ]
        if (folder / "video.mp4").exists():
            pictures.append(Film(folder / "video.mp4", f"The student at play: {name}"))
        return pictures

    def _linked(self, row: Row, name: str) -> Link | str:
        this = key_of(row)
        return Link(name, f"run-{this}") if this in self._shown else name


def _intro(rows: Sequence[Row]) -> list[str]:
    env_steps = sum(row["env_steps"] for row in rows)
    hours = sum(row["seconds"] for row in rows) / 3600
    cost = f"{len(rows):,} runs, {env_steps:,} env steps, {hours:.1f} hours of runs."
    return [f"What came of the paper's claims and of ours. {cost}", TERMS, LEARNING, SPREAD]


def _verdicts(found: Mapping[str, Experiment], claims: Mapping[str, ByMethod]) -> Table:
    lines = []
    for name, methods in claims.items():
        cells = verdict_cells(found[name], methods)
        number, title, verdict = cells.pop("#"), cells.pop("claim"), cells["verdict"]
        claim = Link(f"{number} {title}", name)
        lines.append({"claim": claim, **cells, "verdict": Strong(verdict)})
    return Table("Verdicts", lines, prose=True)


def _results(
    name: str, experiment: Experiment, methods: ByMethod, rows: Sequence[Row], drafts: Path
) -> list[Block]:
    verdict = experiment.judge(methods)
    figures = [Figure(png, title) for title, png in draw(name, experiment, rows, drafts).items()]
    return [
        f"{verdict.word.capitalize()}: {verdict.ours} ({verdict.test}).",
        *figures,
        Table(f"{experiment.title}: methods", method_cells(experiment, methods), prose=True),
    ]


def _run_cells(row: Row) -> dict[str, str]:
    low, high = row["ci95"]
    reached = row.get("env_steps_to_target", "")
    return {
        "env steps to target": "-" if reached is None else f"{reached:,}" if reached else "",
        "mean return (95 %)": f"{row['mean_return']:.2f} ({low:.2f} … {high:.2f})",
        "commit": short(row["commit"]),
        "seconds": f"{row['seconds']:,.0f}",
    }
