"""The paper claim by claim: each module here is one experiment, found by itself."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

Score = Callable[[Path], Mapping[str, Any]]
"""A finished run's folder -> what it is scored by, beside how it went."""


@dataclass(frozen=True)
class Experiment:
    """Methods that are compared on the same seeds."""

    claim: str
    """What is claimed, and where."""
    methods: Mapping[str, Mapping[str, Any]]
    """Name -> the settings in which it differs from ``Distill()``."""
    score: Score = lambda folder: {}


def find_experiments() -> dict[str, Experiment]:
    """Return the ``EXPERIMENT`` of every module of this package that has one, by its name."""
    modules = (import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    found = {m.__name__.rpartition(".")[2]: getattr(m, "EXPERIMENT", None) for m in modules}
    return {name.replace("_", "-"): e for name, e in found.items() if e is not None}
