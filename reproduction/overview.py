"""Everything there is to see of the claims, on one page that needs nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from reproduction import Claim
from reproduction.document import (
    LEARNING,
    SPREAD,
    TERMS,
    cost,
    draw_claim,
    power,
    summary,
    verdict_cells,
)
from reproduction.evidence import Code, Evidence, all_evidence
from tutelage.domains import environment_of
from tutelage.errors import UserError
from tutelage.importers import import_model
from tutelage.logs import read_metrics
from tutelage.report.blocks import Block, Details, Figure, Film, Link, Strong, Table
from tutelage.report.curves import learning_curve
from tutelage.report.page import Section, write_page
from tutelage.report.video import side_by_side
from tutelage.runs import versions
from tutelage.sweeps.judges import ByMethod
from tutelage.sweeps.rows import Row
from tutelage.sweeps.tables import lines_of, short, with_interval

FILMED = 1000
"""Env steps of a film: half a minute, since there may be one for each claim."""


def write_overview(rows: Sequence[Row], path: Path, *, runs: Path, film: bool = False) -> None:
    """Write the page of all claims: verdicts, figures, methods, and every run.

    A run whose folder is still under ``runs`` is shown with its own learning curve, and its video
    where it has one. With ``film`` there is one for each claim: the student of the first run that
    reached the target. Raises UserError without rows, or if ``path`` cannot be written.
    """
    if not rows:
        raise UserError("no run has a row yet: 'python -m reproduction NAME' runs a claim")
    found = all_evidence(rows)
    code = Code.now(versions()["commit"], rows)
    with TemporaryDirectory() as drafts:
        album = Album(runs, Path(drafts))
        how = Details("How to read this page", [TERMS, power(found), LEARNING, SPREAD])
        sections = [Section("Verdicts", [_verdicts(found), how])]
        for name, (claim, of) in found.items():
            blocks: list[Block] = [claim.claim, f"The paper: {claim.paper}."]
            if not of.methods:
                blocks.append("Not run yet.")
            else:
                blocks += _results(name, claim, of.methods, rows, Path(drafts))
                blocks += [age] if (age := of.age(code)) else []
                blocks += album.film(of.methods) if film else []
                blocks.append(album.details(of.methods))
            sections.append(Section(f"{claim.number} {claim.title}", blocks, name))
        write_page(path, title="Reproduction", sections=sections, text=_intro(rows), wide=True)


class Album:
    """The pictures of runs, each shown once, where it is first met."""

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
            folder = self._folders.get(row.key)
            if folder is None or row.env_steps_to_target is None:
                continue
            try:
                if not (folder / "video.mp4").exists():
                    student = import_model(folder)
                    side_by_side(
                        {"student": student.policy},
                        environment_of(student.env, student.obs_shape),
                        folder / "video.mp4",
                        seed=row.seed,
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
                name = f"{method}, seed {row.seed}"
                pictures += self._pictures(row, name)
                lines.append({"run": self._linked(row, name), **_run_cells(row)})
        count = "1 run" if len(lines) == 1 else f"{len(lines)} runs"
        return Details(f"Every run ({count})", [Table("Every run", lines, prose=True), *pictures])

    def _pictures(self, row: Row, name: str) -> list[Block]:
        folder = self._folders.get(row.key)
        metrics = [] if folder is None or row.key in self._shown else read_metrics(folder)
        if folder is None or not metrics:
            return []
        self._shown.add(row.key)
        curve = self._drafts / f"run-{row.key}.png"
        learning_curve(metrics, curve, title=name, target=row.target_return)
        pictures: list[Block] = [
            Figure(curve, f"Learning curve: {name}", "", curve.stem, small=True)
        ]
        if (folder / "video.mp4").exists():
            pictures.append(Film(folder / "video.mp4", f"The student at play: {name}"))
        return pictures

    def _linked(self, row: Row, name: str) -> Link | str:
        return Link(name, f"run-{row.key}") if row.key in self._shown else name


def _intro(rows: Sequence[Row]) -> list[str]:
    env_steps = sum(row.env_steps for row in rows)
    hours = sum(row.seconds for row in rows) / 3600
    spent = f"{len(rows):,} runs, {env_steps:,} env steps, {hours:.1f} hours of runs."
    return [f"{summary(rows)}. {spent}"]


def _verdicts(found: Mapping[str, tuple[Claim, Evidence]]) -> Table:
    lines = []
    for name, (claim, of) in found.items():
        cells = verdict_cells(claim, of.methods)
        number, title, verdict = cells.pop("#"), cells.pop("claim"), cells["verdict"]
        link = Link(f"{number} {title}", name)
        lines.append({"claim": link, **cells, "verdict": Strong(verdict)})
    return Table("Verdicts", lines, prose=True)


def _results(
    name: str, claim: Claim, methods: ByMethod, rows: Sequence[Row], drafts: Path
) -> list[Block]:
    verdict = claim.judge(methods)
    drawn = draw_claim(name, claim, methods, rows, drafts)
    lines = lines_of(methods, columns=claim.columns)
    (title, first), *others = drawn.items()
    decided = filter(None, [f"{verdict.ours} ({verdict.test}).", cost(verdict, methods)])
    return [
        f"{verdict.word.capitalize()}. {claim.told.get(verdict.word, '')}",
        Figure(first, title),
        Details(
            "What decided",
            [
                *decided,
                Table(f"{claim.title}: methods", lines, prose=True),
                *(Figure(png, title) for title, png in others),
            ],
        ),
    ]


def _run_cells(row: Row) -> dict[str, str]:
    reached = f"{row.env_steps_to_target:,}" if row.env_steps_to_target else "-"
    return {
        "env steps to target": "" if row.command.name == "evaluate" else reached,
        "mean return (95 %)": with_interval(row),
        "commit": short(row.commit),
        "seconds": f"{row.seconds:,.0f}",
    }
