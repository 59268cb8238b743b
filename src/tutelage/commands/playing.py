"""``tutelage evaluate``, ``inspect``, ``watch`` and ``sizes``: what a model is and does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from tyro.conf import OmitArgPrefixes, Positional, arg

from tutelage import api, threads
from tutelage.commands import display
from tutelage.configs import Count, Seed, Share, Threads
from tutelage.domains import DOMAINS, EnvironmentConfig, domain_of, environment_of, make, spaces_of
from tutelage.domains.atari import AtariSettings
from tutelage.domains.gym import GymSettings
from tutelage.errors import UserError
from tutelage.evaluation import MAX_STEPS
from tutelage.heads import describe_head, head_for
from tutelage.importers import import_model
from tutelage.networks import SIZES, Network, count_parameters
from tutelage.quantisation import packed_bytes, precision_of
from tutelage.report import summary
from tutelage.teachers import as_model, model_of, parse_teacher, played_by


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Play whole episodes greedily on held-out seeds, without and with sticky actions."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A bundled name, a model file or a run's folder; perhaps with wrappers: ppo.zip+noise:1."""
    env: str = "auto"
    """auto: what the model was made for; else an Atari ROM's name or a Gymnasium id."""
    episodes: Count = 30
    """Episodes per row of the table."""
    sticky: Share = 0.25
    """Sticky actions of the second row; 0 for none (Atari only)."""
    only: str = ""
    """Act only in a part of the states that the domain names; elsewhere the last action is repeated
    and nothing counts, or, as in NAME:2, only in every other step."""
    full_actions: bool = False
    """Act by all 18 of the joystick's actions (Atari)."""
    gymnasium: Annotated[GymSettings, OmitArgPrefixes] = field(default_factory=GymSettings)
    max_steps: Annotated[int, Meta(ge=1, le=10**9)] = MAX_STEPS
    """Env steps after which an episode is cut."""
    seed: Seed = 0
    """Seed of the episodes' starts."""
    device: str = "cpu"
    """cpu, cuda, …"""
    threads: Threads = 0
    """Threads of PyTorch, and as many of the emulators; 0: chosen."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        if self.gymnasium.teacher_view:
            raise UserError(
                "teacher_view is for learning from a teacher: name what this policy sees by "
                "`student_view`"
            )
        named = EnvironmentConfig(
            env=self.env,
            gymnasium=self.gymnasium,
            atari=AtariSettings(full_actions=self.full_actions),
        )
        plays = None if self.env == "auto" else spaces_of(named)
        made = as_model(parse_teacher(self.model)[0], plays)
        env = played_by(made) if self.env == "auto" else self.env
        config = replace(
            environment_of(env, made.obs_shape, made.card),
            only=self.only,
            gymnasium=self.gymnasium,
        )
        full = self.full_actions or config.atari.full_actions
        config = replace(config, atari=replace(config.atari, full_actions=full))
        games = domain_of(config) is DOMAINS["atari"]
        sticks = games and self.sticky
        columns = {}
        chosen = self.threads or threads.usual(convolutions=len(made.obs_shape or ()) > 2)
        with threads.owning(chosen), display.notes() as note:
            for sticky in (0.0, self.sticky) if sticks else (0.0,):
                columns[sticky] = api.evaluate(
                    self.model,
                    replace(config, atari=replace(config.atari, sticky=sticky)),
                    episodes=self.episodes,
                    seed=self.seed,
                    max_steps=self.max_steps,
                    device=self.device,
                    threads=chosen,
                    note=note,
                ).summary()
        result: dict[str, Any] = {"model": self.model, "env": env, **columns[0.0]}
        if sticks:
            result["sticky"] = {"probability": self.sticky, **columns[self.sticky]}
        if self.json:
            display.answer(result)
            return
        display.table(
            f"{self.model} on {env}",
            [
                {**({"sticky actions": f"{sticky:g}"} if games else {}), **summary.cells(figures)}
                for sticky, figures in columns.items()
            ],
        )


@dataclass(frozen=True, kw_only=True)
class InspectCommand:
    """Say what a file is: its format, head, observations, size, origin and digest."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A bundled name, a model file or a run's folder."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        model = import_model(self.model)
        about: dict[str, Any] = {
            "model": self.model,
            "format": model.format,
            "env": model.env or None,
            "head": describe_head(model.policy.head),
            "observations": None if model.obs_shape is None else list(model.obs_shape),
            "size": str(model.policy.size) if isinstance(model.policy, Network) else None,
            "precision": precision_of(model.policy) if isinstance(model.policy, Network) else None,
            "packed_bytes": packed_bytes(model.policy) or None,
            "parameters": model.parameters or None,
            "memory": bool(model.policy.initial(1)),
            "file": None if model.path is None else str(model.path),
            "bytes": None if model.path is None else model.path.stat().st_size,
            "digests": dict(model.files),
            "card": dict(model.card),
        }
        if self.json:
            display.answer(about)
            return
        card = about.pop("card")
        settings = dict(_settings(model.env, card.pop("config", {})))
        lines = {**about, **dict(_dotted("card", card)), **dict(_dotted("settings", settings))}
        display.facts({name: _said(value) for name, value in lines.items() if _tells(value)})


def _settings(env: str, config: Any) -> Iterator[tuple[str, Any]]:
    """Yield by their names the settings on a card, but for those of another domain's games."""
    known = env and domain_of(EnvironmentConfig(env=env))
    idle = [name for name, domain in DOMAINS.items() if domain is not known]
    for name, value in config.items() if isinstance(config, Mapping) else ():
        if not isinstance(value, Mapping):
            yield name, value
        elif name not in idle:
            yield from _settings(env, value)


def _dotted(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is nested under a name, each value by all its names."""
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, inner in value.items():
        yield from _dotted(f"{name}.{key}", inner)


def _tells(value: Any) -> bool:
    """Return whether there is anything to say of a value; 0 is something."""
    return value is not None and value is not False and value not in ("", [], {})


def _said(value: Any) -> str:
    if value is True:
        return "yes"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if type(value) is int else str(value)


@dataclass(frozen=True, kw_only=True)
class WatchCommand:
    """Film one or more models playing the same episode side by side."""

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL [MODEL ...]")]
    """Bundled names, model files or runs' folders."""
    env: str = "auto"
    """auto: what the models were made for; else an Atari ROM's name or a Gymnasium id."""
    out: str = "watch.mp4"
    """The video."""
    seed: Seed = 0
    """Seed of the episode's start."""
    sticky: Annotated[float | None, Meta(ge=0.0, lt=1.0)] = None
    """Probability of a sticky action (Atari); by default that of the model's own game."""

    def run(self) -> None:
        from tutelage.report.video import side_by_side

        if not self.models:
            raise UserError("watch needs at least one model")
        plays = None if self.env == "auto" else spaces_of(EnvironmentConfig(env=self.env))
        loaded = [as_model(name, plays) for name in self.models]
        config, *others = {
            environment_of(
                played_by(model) if self.env == "auto" else self.env, model.obs_shape, model.card
            ): None
            for model in loaded
        }
        if others:
            games = ", ".join(f"{c.env} ({c.atari.frame} pixels)" for c in (config, *others))
            raise UserError(f"these models play different games: {games}")
        if self.sticky is not None:
            config = replace(config, atari=replace(config.atari, sticky=self.sticky))
        plays = spaces_of(config)
        side_by_side(
            {name: model_of(name, plays).policy for name in self.models},
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
        head = head_for(envs.action_space)
        counts: dict[str, int] = {}
        for name, size in SIZES.items():
            if bool(size.channels) == (len(envs.obs_shape) >= 3):
                counts[name] = count_parameters(size, envs.obs_shape, head)
        envs.close()
        if self.json:
            display.answer(counts)
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
