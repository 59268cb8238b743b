"""Policies of any origin: each importer reads one kind of file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tutelage.errors import UserError
from tutelage.models import find, load_network
from tutelage.policies import Model

IMPORTERS: dict[str, Callable[[Path], Model]] = {"tutelage": load_network}
"""Format -> what reads it."""


def import_model(text: str | Path) -> Model:
    """Return the policy that ``text`` names: a bundled one, a run's folder or a file.

    Raises UserError if there is none, or it cannot be read.
    """
    name, *options = str(text).split("+")
    if options:
        raise UserError(f"{name}: unknown option {options[0]!r}")
    return replace(load_network(find(name)), name=str(text))
