"""The paper claim by claim: a user of ``tutelage.sweeps``, beside the package and not in it.

Each module of ``reproduction.claims`` is one claim, found by itself.
"""

import pkgutil
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from reproduction import claims
from tutelage.specs import load_object
from tutelage.sweeps.figures import Plot
from tutelage.sweeps.jobs import Job, jobs
from tutelage.sweeps.judges import Judge
from tutelage.sweeps.sweep import Score, Sweep
from tutelage.sweeps.tables import Column

ROOT = Path(__file__).parent.parent
"""What the names of model files are told from."""

Settings = Mapping[str, Any]

USUAL: Mapping[str, Settings] = {
    "distill": {
        "teachers": ["pong"],
        "batch_size": 64,
        "samples_per_step": 16.0,
        "learning_rate": "1e-3:1e-4:5000",
        "precision": "bf16",
    },
    "teach": {"precision": "bf16"},
    "train": {"precision": "bf16"},
}
"""What all runs of a command are asked, whatever the machine and the defaults of today."""

BUDGETS: Mapping[str, Mapping[str, Settings]] = {
    "smoke": {
        "distill": {
            "env_steps": 256,
            "eval_from": 10**9,
            "round_steps": 128,
            "num_envs": 2,
            "learning_starts": 64,
            "samples_per_step": 4.0,
            "confirm_episodes": 1,
            "measure_episodes": 1,
        },
        "record": {"env_steps": 256, "num_envs": 2},
        "train": {
            "env_steps": 256,
            "num_envs": 2,
            "round_steps": 128,
            "learning_starts": 64,
            "samples_per_step": 1.0,
            "batch_size": 32,
        },
        "evaluate": {"episodes": 1},
    },
    "short": {},
    "paper": {"distill": {"env_steps": 250_000}},
}
"""Name -> what it overrides: a look, what settles most claims (50,000 env steps), the paper's own.

By command; ``train`` is a teacher's training, by itself or for a data set."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Methods that are compared on the same seeds to settle a claim."""

    number: str
    """The claim's place on the page: 1 to 12 are the paper's, a letter marks what is beside it."""
    title: str
    claim: str
    """What is claimed, and where."""
    paper: str
    """The paper's own figure."""
    methods: Mapping[str, Settings]
    """As a ``Sweep`` has them."""
    judge: Judge
    plot: Plot
    told: Mapping[str, str] = field(default_factory=dict)
    """A verdict's word -> what came of the claim, in a sentence for people."""
    score: Score | None = None
    """A finished run's folder -> what it is scored by, beside how it went."""
    columns: Mapping[str, Column] = field(default_factory=dict)
    """What else the table shows of a method."""

    def jobs(self, name: str, *, seeds: int, budget: str = "short") -> list[Job]:
        """Return its runs within a budget."""
        methods = {m: within(settings, BUDGETS[budget]) for m, settings in self.methods.items()}
        sweep = Sweep(name=name, methods=methods, score=self.score)
        return jobs(sweep, seeds=seeds, root=ROOT)


def plays(model: str, **settings: Any) -> Settings:
    """Return a method in which a model plays."""
    return {"command": "evaluate", "model": model, "max_steps": 27_000, **settings}


def within(asked: Settings, budget: Mapping[str, Settings]) -> Settings:
    """Return the settings of a method with what is usual and what a budget overrides."""
    command = asked.get("command", "distill")
    key = "train" if command == "teach" else command
    settings = {**USUAL.get(key, {}), **asked, **budget.get(key, {})}
    for made in ("record", "train"):
        if command == "distill" and made in settings:
            settings[made] = {**USUAL.get(made, {}), **settings[made], **budget.get(made, {})}
    return settings


def find_claims(*names: str) -> dict[str, Claim]:
    """Return the claims of every module of ``claims`` and those of ``names``, by name.

    ``names`` are MODULE:NAME of others. They come in the order of their numbers: 4, 4b, 12.
    """
    found = {
        module.name.replace("_", "-"): import_module(f"{claims.__name__}.{module.name}").CLAIM
        for module in pkgutil.iter_modules(claims.__path__)
    }
    found |= {name: load_object("claim", name) for name in names}
    return dict(sorted(found.items(), key=lambda item: _place(item[1].number)))


def _place(number: str) -> tuple[int, str]:
    digits, rest = re.fullmatch(r"(\d*)(\w*)", number).groups()  # type: ignore[union-attr]
    return int(digits or sys.maxsize), rest
