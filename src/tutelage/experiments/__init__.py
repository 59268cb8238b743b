"""The paper claim by claim: each module here is one claim, found by itself."""

import pkgutil
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tutelage.configs import Teach
from tutelage.experiments.tasks import Play

Row = Mapping[str, Any]
"""What is kept of a finished run."""

ByMethod = Mapping[str, Sequence[Row]]
"""The rows of each method, seed by seed."""


@dataclass(frozen=True)
class Verdict:
    """What came of a claim."""

    word: str
    """holds, does not hold or not settled."""
    ours: str
    """Our figure beside the paper's, with its interval."""
    test: str
    """What decided it."""


Judge = Callable[[ByMethod], Verdict]
Plot = Callable[[ByMethod, Path, str], None]
"""Draws the rows into a PNG under a title."""


@dataclass(frozen=True)
class Experiment:
    """Methods that are compared on the same seeds to settle a claim."""

    number: str
    """The claim's place on the page: 1 to 12 are the paper's, a letter marks what is beside it."""
    title: str
    claim: str
    """What is claimed, and where."""
    paper: str
    """The paper's own figure."""
    methods: Mapping[str, Mapping[str, Any] | Teach | Play]
    """Name -> the settings in which it differs from ``Distill()``, a teacher's training, or a model
    that plays.

    The keys ``record`` and ``train`` hold settings of ``Record`` and of ``Teach``: the run first
    makes a data set of its own so, and learns from that.
    """
    judge: Judge
    plot: Plot
    score: Callable[[Path], Row] = lambda folder: {}
    """A finished run's folder -> what it is scored by, beside how it went."""
    columns: Mapping[str, Callable[[Row], float | None]] = field(default_factory=dict)
    """What else the table shows of each run, as a share."""


def find_experiments() -> dict[str, Experiment]:
    """Return the ``EXPERIMENT`` of every module of this package that has one, by its name.

    They come in the order of their numbers: 4, 4b, 12.
    """
    modules = (import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    found = {m.__name__.rpartition(".")[2]: getattr(m, "EXPERIMENT", None) for m in modules}
    there = {name.replace("_", "-"): e for name, e in found.items() if e is not None}
    return dict(sorted(there.items(), key=lambda item: _place(item[1].number)))


def _place(number: str) -> tuple[int, str]:
    digits, rest = re.fullmatch(r"(\d*)(\w*)", number).groups()  # type: ignore[union-attr]
    return int(digits or sys.maxsize), rest
