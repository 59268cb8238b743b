"""``tutelage report``: a run on one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from tutelage.report import summary


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write a run's report.html again, with curve and film."""

    folder: Annotated[Positional[str], arg(metavar="RUN")]
    """The run's folder."""
    no_video: Annotated[bool, FlagCreatePairsOff] = False
    """Do not film student and teacher side by side."""

    def run(self) -> None:
        print(summary.write_report(Path(self.folder), video=not self.no_video))
