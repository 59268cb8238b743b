"""``tutelage report``: a run, or all claims, on one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from tutelage.errors import UserError
from tutelage.report import summary


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write a run's report.html again, with its learning curve and a film of its players."""

    folder: Annotated[Positional[str], arg(metavar="[RUN]")] = ""
    """The run's folder."""
    all: Annotated[bool, FlagCreatePairsOff] = False
    """All claims: verdicts, figures, and every run that has a row."""
    video: Annotated[bool, FlagCreatePairsOff] = False
    """With --all: film one student for each claim."""
    no_video: Annotated[bool, FlagCreatePairsOff] = False
    """With a folder: do not film student and teacher side by side."""
    results: str = "results/reproduce"
    """With --all: where rows.jsonl.gz is."""
    runs: str = "runs/reproduce"
    """With --all: where the runs' folders are, as far as they still are."""
    out: str = ""
    """With --all: the page; by default report.html beside the rows."""

    def run(self) -> None:
        if bool(self.folder) == self.all:
            raise UserError("report needs either a run's folder or --all, and not both")
        if self.all and self.no_video:
            raise UserError("--no-video: only with a run's folder")
        for flag, given in (("--video", self.video), ("--out", self.out)):
            if given and not self.all:
                raise UserError(f"{flag}: only with --all")
        if not self.all:
            print(summary.write_report(Path(self.folder), video=not self.no_video))
            return
        from tutelage.experiments.overview import write_overview
        from tutelage.experiments.rows import finished

        page = Path(self.out) if self.out else Path(self.results) / "report.html"
        rows = finished(Path(self.results))
        write_overview(rows, page, runs=Path(self.runs), film=self.video)
        print(page)
