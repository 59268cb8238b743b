"""What a sweep asks of a model that plays, and how it is played."""

from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
from msgspec import Meta

from tutelage.configs import Count, Seed, Threads
from tutelage.domains import EnvironmentConfig, about, as_made, settled, spaces_of
from tutelage.evaluation import MAX_STEPS, Evaluation, evaluate
from tutelage.importers import import_model
from tutelage.teachers import load_teachers, parse_teacher, played_by


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Let a model play whole episodes greedily, as ``tutelage evaluate`` does."""

    model: str = "pong"
    """A bundled name, a model file or a run's folder; perhaps with wrappers: ppo.zip+noise:1."""
    seed: Seed = 1
    """Seed of the episodes' starts."""
    episodes: Count = 100
    """Episodes that are played."""
    max_steps: Annotated[int, Meta(ge=1, le=10**9)] = MAX_STEPS
    """Env steps after which an episode is cut."""
    device: str = "cpu"
    """cpu, cuda, …"""
    threads: Threads = 0
    """Threads of PyTorch, and as many of the emulators; 0: chosen."""
    environment: EnvironmentConfig = field(default_factory=lambda: EnvironmentConfig(env="auto"))


def as_asked(config: Evaluate) -> Evaluate:
    """Return the configuration with its environment named; raise UserError where none is known."""
    environment = config.environment
    if environment.env != "auto":
        return replace(config, environment=settled(environment))
    model = import_model(parse_teacher(config.model)[0])
    made = as_made(environment, played_by(model), model.obs_shape, model.card)
    return replace(config, environment=made)


def play(config: Evaluate) -> Evaluation:
    """Play; raise UserError for what cannot be."""
    device = torch.device(config.device)
    regions = about(config.environment).regions
    ensemble, _ = load_teachers(
        [config.model],
        device=device,
        seed=config.seed,
        regions=lambda model: regions,
        plays=spaces_of(config.environment),
    )
    return evaluate(
        ensemble.alone(0),
        config.environment,
        episodes=config.episodes,
        seed=config.seed,
        max_steps=config.max_steps,
        device=device,
        threads=config.threads,
    )
