"""Policies that others trained: one importer a format, found by what is in a file.

A new format is one file and its entry in ``IMPORTERS``; one from outside of the package is named
``MODULE:NAME:FILE``, where NAME is an ``Importer``.
"""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.errors import PolicyWarning, UserError, choose_from
from tutelage.importers import (
    onnx,
    python,
    sb3,
    state_dict,
    torch_export,
    torchscript,
    tutelage,
    vecnormalize,
)
from tutelage.importers.base import Importer, Space, beginning
from tutelage.importers.python import policy_of
from tutelage.models import find
from tutelage.policies import Model
from tutelage.specs import is_place, load_object
from tutelage.text import words_of

__all__ = ["IMPORTERS", "OPTIONS", "Importer", "import_model", "policy_of"]

IMPORTERS: dict[str, Importer] = {
    "tutelage": Importer(tutelage.recognises, tutelage.load),
    "sb3": Importer(sb3.recognises, sb3.load),
    "torchscript": Importer(torchscript.recognises, torchscript.load, program=True),
    "torch-export": Importer(torch_export.recognises, torch_export.load, program=True),
    "onnx": Importer(onnx.recognises, onnx.load),
    "state-dict": Importer(state_dict.recognises, state_dict.load),
}
"""Name -> importer; the first that recognises a file has it, ``NAME:FILE`` chooses one."""


def _options(load: Callable[..., Model]) -> list[str]:
    """Return the options that an importer takes, beside those that any has."""
    return [option for option in inspect.signature(load).parameters if option != "space"][1:]


OPTIONS = frozenset(
    option
    for load in (*(importer.load for importer in IMPORTERS.values()), python.load)
    for option in (*_options(load), "vecnormalize")
)
"""What may stand behind a file, as ``+head:q``."""


def import_model(text: str | Path, *, space: Space | None = None) -> Model:
    """Return the policy that ``text`` names: a bundled one, a run's folder or a file.

    Also ``FORMAT:FILE`` and ``MODULE:NAME``; options stand behind it, as ``a.zip+activation:tanh``.
    They are the importer's own; any has ``vecnormalize:FILE``, the statistics that observations are
    normalised by. ``space`` holds the actions of the environment, where that is known. Raises
    UserError for a file that no importer recognises, a program that is not named as one, and an
    option that there is not.
    """
    name, *words = words_of(str(text))
    given = {option: value for option, _, value in (word.partition(":") for word in words)}
    statistics = given.pop("vecnormalize", "")
    load, what = _importer(name)
    known = _options(load)
    if unknown := [option for option in given if option not in known]:
        error = choose_from("option", unknown[0], [*known, "vecnormalize"])
        raise UserError(f"{name}: {error}; wrappers are for teachers, 'evaluate' and 'export'")
    model = replace(load(what, space=space, **given), name=str(text))
    if statistics:
        return vecnormalize.normalised(model, Path(statistics))
    if model.card.get("needs_vecnormalize"):
        warnings.warn(
            f"{name} was trained behind VecNormalize: without its statistics, as in "
            "+vecnormalize:vecnormalize.pkl, it sees observations that it does not know",
            PolicyWarning,
            stacklevel=2,
        )
    return model


def _importer(name: str) -> tuple[Callable[..., Model], Any]:
    """Return what loads ``name``, and what it is to be given."""
    first, _, rest = name.partition(":")
    if rest and first in IMPORTERS:
        return IMPORTERS[first].load, find(rest)
    if is_place(name):
        attribute, _, file = rest.partition(":")
        if not file:
            return python.load, name
        importer = load_object("importer", f"{first}:{attribute}", IMPORTERS)
        if not isinstance(importer, Importer):
            raise UserError(f"importer {first}:{attribute} is a {type(importer).__name__}")
        return importer.load, find(file)
    path = find(name)
    for kind, importer in IMPORTERS.items():
        if importer.recognises(path):
            if importer.program:
                raise UserError(f"{name} is a program: name it as {kind}:{name} to run it")
            return importer.load, path
    said = "is of no format that is known"
    if beginning(path, 1) == b"\x80":
        said = "looks like a pickle or zip archive, which is never loaded"
    raise UserError(f"{name} {said}: expected {', '.join(IMPORTERS)} or MODULE:NAME")
