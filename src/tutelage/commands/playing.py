"""``tutelage evaluate``, ``watch`` and ``sizes``: what a model does, and how large it is."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from tutelage import teachers
from tutelage.commands import display
from tutelage.domains.atari import EnvironmentConfig, is_atari, make
from tutelage.errors import UserError
from tutelage.evaluation import evaluate
from tutelage.networks import SIZES, count_parameters
from tutelage.ranges import check_numbers
from tutelage.recipes.assembly import open_device
from tutelage.report import summary


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Play whole episodes greedily on held-out seeds, without and with sticky actions."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A bundled name, a model file or a run's folder; perhaps with wrappers: pong+noise:1."""
    episodes: int = 30
    """Episodes per column."""
    sticky: float = 0.25
    """Sticky actions of the second column; 0 for none (Atari only)."""
    only: str = ""
    """Pong: ball-top or ball-bottom; elsewhere the last action is repeated and nothing counts, or
    by ball-top:2 only in every other step, as in the authors' code."""
    seed: int = 0
    """Seed of the episodes' starts."""
    device: str = "cpu"
    """cpu, cuda, …"""
    threads: int = 2
    """Threads of PyTorch, and as many of the emulators."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        check_numbers(self)
        device = open_device(self.device, self.threads)
        ensemble, models = teachers.load_teachers([self.model], device=device, seed=self.seed)
        (model,) = models.values()
        columns = {}
        for sticky in (0.0, self.sticky) if is_atari(model.env) and self.sticky else (0.0,):
            columns[sticky] = evaluate(
                ensemble.alone(0),
                replace(teachers.environment_of(model, sticky=sticky), only=self.only),
                episodes=self.episodes,
                seed=self.seed,
                device=device,
                threads=self.threads,
            ).summary()
        result: dict[str, Any] = {"model": self.model, "env": model.env, **columns[0.0]}
        if self.sticky in columns and self.sticky:
            result["sticky"] = {"probability": self.sticky, **columns[self.sticky]}
        if self.json:
            print(json.dumps(result))
            return
        display.table(
            f"{self.model} on {model.env}",
            [
                {"sticky actions": f"{sticky:g}", **summary.cells(figures)}
                for sticky, figures in columns.items()
            ],
        )


@dataclass(frozen=True, kw_only=True)
class WatchCommand:
    """Film one or more models playing the same episode side by side."""

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL [MODEL ...]")]
    """Bundled names, model files or runs' folders."""
    out: str = "watch.mp4"
    """The video."""
    seed: int = 0
    """Seed of the episode's start."""
    sticky: float = 0.0
    """Probability of a sticky action (Atari)."""

    def run(self) -> None:
        from tutelage.report.video import side_by_side

        check_numbers(self)
        loaded = {name: teachers.load(name) for name in self.models}
        if not loaded:
            raise UserError("watch needs at least one model")
        config, *others = {
            teachers.environment_of(model, sticky=self.sticky): None for model in loaded.values()
        }
        if others:
            games = ", ".join(f"{c.env} ({c.frame} pixels)" for c in (config, *others))
            raise UserError(f"these models play different games: {games}")
        side_by_side(
            {name: model.network for name, model in loaded.items()},
            config,
            Path(self.out),
            seed=self.seed,
        )
        display.say(self.out)


@dataclass(frozen=True, kw_only=True)
class SizesCommand:
    """List the named network sizes with their parameter counts."""

    env: str = "pong"
    """The environment they are counted for."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        envs = make(EnvironmentConfig(env=self.env, num_envs=1), seed=0)
        counts: dict[str, int] = {}
        for name, size in SIZES.items():
            if bool(size.channels) == (len(envs.obs_shape) == 3):
                counts[name] = count_parameters(size, envs.obs_shape, envs.num_actions)
        envs.close()
        if self.json:
            print(json.dumps(counts))
            return
        display.table(
            f"Sizes on {self.env} (the paper counts a network and its target copy)",
            [
                {
                    "name": name,
                    "widths": str(SIZES[name]),
                    "parameters": f"{count:,}",
                    "with target copy": f"{2 * count:,}",
                }
                for name, count in counts.items()
            ],
        )
