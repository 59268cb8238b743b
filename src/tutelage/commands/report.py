"""``tutelage report``: a run on one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from tutelage.commands import display
from tutelage.configs import Distill, Multitask
from tutelage.domains import as_teacher, spaces_of
from tutelage.errors import UserError
from tutelage.importers import import_model
from tutelage.logs import read_result
from tutelage.report import summary
from tutelage.report.video import side_by_side
from tutelage.specs import is_place
from tutelage.teachers import model_of, parse_teacher


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write a run's report.html again, with its learning curve and a film of its players."""

    folder: Annotated[Positional[str], arg(metavar="RUN")]
    """The run's folder."""
    no_video: Annotated[bool, FlagCreatePairsOff] = False
    """Do not film student and teacher side by side."""

    def run(self) -> None:
        display.say(str(report(Path(self.folder), video=not self.no_video)))


def report(folder: Path, *, video: bool) -> Path:
    """Write the page of a finished run, with a new film of its players if ``video``.

    Why there is no film is said on the page: it must not keep a run from its report.
    """
    notes = []
    if video:
        try:
            film(folder)
        except UserError as error:
            notes = [f"No film: {error}"]
    return summary.write_report(folder, notes=notes)


def film(folder: Path) -> None:
    """Film a run's student, and its teacher if that was evaluated, as ``video.mp4``."""
    config = summary.read_settings(folder)
    if isinstance(config, Multitask):
        raise UserError(f"'tutelage watch {folder}+task:NAME' films one of several tasks")
    result = read_result(folder)
    own = ""
    if isinstance(config, Distill) and is_place(config.student):
        own = f"+module:{config.student}"
    players = {}
    if "teacher" in result:  # first: it may bring a head that the student has too
        name, _ = parse_teacher(result["teacher"]["name"])
        players["teacher"] = model_of(name, spaces_of(as_teacher(config.environment)))
    players["student"] = import_model(f"{folder}{own}")
    side_by_side(
        {name: model.policy for name, model in players.items()},
        config.environment,
        folder / "video.mp4",
        sees={"teacher": as_teacher(config.environment)},
        seed=config.seed,
    )
