"""The paper claim by claim: each module here is one experiment, found by itself."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

Score = Callable[[Path], Mapping[str, Any]]
"""A finished run's folder -> what it is scored by, beside how it went."""

Row = Mapping[str, Any]
"""What is kept of a finished run."""


@dataclass(frozen=True)
class Experiment:
    """Methods that are compared on the same seeds."""

    title: str
    claim: str
    """What is claimed, and where."""
    methods: Mapping[str, Mapping[str, Any]]
    """Name -> the settings in which it differs from ``Distill()``."""
    reference: str
    """The method that the others are compared with."""
    within: float
    """How many times the reference's env steps the claim allows."""
    claimed: tuple[str, ...]
    """The methods the claim is about; the best of them if ``any_of``, else all."""
    any_of: bool = False
    score: Score = lambda folder: {}
    columns: Mapping[str, Callable[[Row], float | None]] = field(default_factory=dict)
    """What else the table shows of each run."""


def find_experiments() -> dict[str, Experiment]:
    """Return the ``EXPERIMENT`` of every module of this package that has one, by its name."""
    modules = (import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    found = {m.__name__.rpartition(".")[2]: getattr(m, "EXPERIMENT", None) for m in modules}
    return {name.replace("_", "-"): e for name, e in found.items() if e is not None}
