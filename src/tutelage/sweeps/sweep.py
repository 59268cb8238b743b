"""A sweep: methods, each the settings in which it differs, that are compared on the same seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from tutelage.errors import UserError, choose_from, look_up
from tutelage.files import read_toml
from tutelage.schema import settings_of
from tutelage.specs import load_object
from tutelage.sweeps.tasks import KINDS

Score = Callable[[Path], Mapping[str, float]]
"""A finished run's folder, where it has one -> what else it is scored by."""
OWN = ("title", "reference", "score", "methods", "grid")
"""The keys of a file that are no settings."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is compared."""

    name: str
    methods: Mapping[str, Mapping[str, Any]]
    """Name -> settings of ``distill`` that are not the usual ones.

    ``command`` may be ``teach`` or ``evaluate`` instead, and the settings are of that. Under
    ``record`` or ``train`` there may be settings by which each run first makes a data set of its
    own, of a teacher that plays or that is trained. ``seeds`` bounds how many the method gets.
    """
    title: str = ""
    reference: str = ""
    """The method that the others are compared with: by default the first."""
    score: Score | None = None


def read_sweep(path: Path) -> Sweep:
    """Return the sweep that a TOML file describes.

    Settings at its top are shared by all methods. ``[methods.NAME]`` has those of one; ``[grid]``
    has lists, of which every combination is a method; with both, every combination of each method.
    ``score`` is a function as MODULE:NAME. Raises UserError for anything else.
    """
    values = read_toml(path)
    methods, grid = (_table(path, name, values.get(name, {})) for name in ("methods", "grid"))
    if not methods and not grid:
        raise UserError(
            f"{path}: nothing to compare, expected [methods.NAME] tables or a [grid] of lists"
        )
    for name, choices in grid.items():
        if not isinstance(choices, list) or not choices:
            raise UserError(f"{path}: grid.{name} is {choices!r}, expected a list of values")
    shared = {key: value for key, value in values.items() if key not in OWN}
    found: dict[str, dict[str, Any]] = {}
    for name, own in (methods or {"": {}}).items():
        common = _shared(shared, _table(path, name, own), where=f"{path}, {name}")
        for chosen in product(*grid.values()):
            cell = dict(zip(grid, chosen, strict=True))
            words = [f"{key} {_shown(value)}" for key, value in cell.items()]
            found[", ".join([name] * bool(name) + words)] = {**common, **cell}
    reference = str(values.get("reference", ""))
    if reference and reference not in found:
        raise UserError(f"{path}: {choose_from('reference', reference, found)}")
    score = values.get("score")
    return Sweep(
        name=path.stem,
        methods=found,
        title=str(values.get("title", path.stem)),
        reference=reference or next(iter(found)),
        score=None if score is None else load_object("score", str(score)),
    )


def _table(path: Path, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{path}: {name} is {value!r}, expected a table")
    return value


def _shared(shared: Mapping[str, Any], own: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return a method's settings: of what is shared with another command, what it has as well."""
    usual = shared.get("command", "distill")
    command = own.get("command", usual)
    if command == usual:
        return {**shared, **own}
    try:
        known = settings_of(look_up("command", str(command), KINDS))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return {**{key: value for key, value in shared.items() if key in known}, **own}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
