"""``tutelage zoo``: the models that are at hand, and how well each plays by its card."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from tyro.conf import Positional, arg

from tutelage import models
from tutelage.commands import display
from tutelage.errors import UserError
from tutelage.policies import Model
from tutelage.report.summary import DASH
from tutelage.tasks import models_in
from tutelage.text import alike

BESIDE = Path("zoo")
"""Where models lie that are too large for the package, if it is there."""
STICKY = "sticky_"
"""Begins the key of a card that holds the score under other sticky actions: ``sticky_0.25``."""


class Score(msgspec.Struct):
    """What a card says of how well its model plays."""

    mean_return: float
    ci95: tuple[float, float]
    episodes: int


@dataclass(frozen=True, kw_only=True)
class ZooCommand:
    """List the models that come with the package, and those of a folder, with their scores."""

    folders: Annotated[Positional[tuple[str, ...]], arg(metavar="[FOLDER ...]")] = ()
    """Folders of models beside those of the package; by default zoo, if there is one here."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folders = [Path(folder) for folder in self.folders]
        if missing := [folder for folder in folders if not folder.is_dir()]:
            raise UserError(f"{missing[0]} is no folder")
        if not folders and BESIDE.is_dir():
            folders = [BESIDE]
        paths = {name: models.find(name) for name in models.bundled_names()}
        for folder in folders:
            paths |= {str(path): path for path in sorted(folder.glob("*.safetensors"))}
        kept = {
            f"{name}{task}": model
            for name, path in paths.items()
            for task, model in models_in(path).items()
        }
        if self.json:
            display.answer({name: _facts(model) for name, model in kept.items()})
            return
        display.table("Models", [row for name, model in kept.items() for row in _rows(name, model)])


def scores(card: Mapping[str, Any]) -> dict[float, Score]:
    """Return the scores on a card, by the probability of sticky actions that they are of."""
    found: dict[float, Score] = {}
    for sticky, figures in _played(card):
        try:
            found[sticky] = msgspec.convert(figures, Score)
        except msgspec.ValidationError:
            continue  # a card is a person's own, and may say anything
    return found


def _played(card: Mapping[str, Any]) -> Iterator[tuple[float, Any]]:
    made: Any = card
    for key in ("config", "environment", "atari", "sticky"):
        made = made.get(key) if isinstance(made, Mapping) else None
    yield float(made) if isinstance(made, int | float) else 0.0, dict(card)
    for key, figures in card.items():
        number = key.removeprefix(STICKY)
        if key.startswith(STICKY) and number.replace(".", "", 1).isdecimal():
            yield float(number), figures


def _facts(model: Model) -> dict[str, Any]:
    assert model.path is not None
    return {
        "env": model.env,
        "scores": {
            f"{sticky:g}": msgspec.to_builtins(score)
            for sticky, score in scores(model.card).items()
        },
        "parameters": model.parameters,
        "bytes": model.path.stat().st_size,
    }


def _rows(name: str, model: Model) -> Iterator[dict[str, str]]:
    assert model.path is not None
    about = {
        "parameters": f"{model.parameters:,}",
        "file": f"{model.path.stat().st_size / 1e3:,.0f} kB",
    }
    known = scores(model.card)
    for sticky, score in known.items():
        mean, low, high = alike(score.mean_return, *score.ci95)
        yield {
            "model": name,
            "env": model.env,
            "sticky": f"{sticky:g}",
            "mean return": mean,
            "95 % interval": f"{low} … {high}",
            "episodes": f"{score.episodes}",
            **about,
        }
    if not known:
        unknown = dict.fromkeys(("sticky", "mean return", "95 % interval", "episodes"), DASH)
        yield {"model": name, "env": model.env, **unknown, **about}
