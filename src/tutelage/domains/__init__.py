"""Families of environments: all that is known of one is in its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from tutelage.domains.atari import AtariDomain, AtariSettings
from tutelage.domains.base import About, Domain, Feature, Region
from tutelage.domains.gym import GymDomain, GymSettings
from tutelage.environments import Environments, Restricted, Spaces
from tutelage.errors import UserError, look_up
from tutelage.specs import load_object

__all__ = [
    "DOMAINS",
    "About",
    "Domain",
    "EnvironmentConfig",
    "Feature",
    "Region",
    "Spaces",
    "about",
    "actions_of",
    "as_evaluated",
    "as_made",
    "as_teacher",
    "camera",
    "domain_of",
    "environment_of",
    "make",
    "preprocessing",
    "settled",
    "spaces_of",
    "usual_target",
]

DOMAINS: dict[str, Domain] = {"atari": AtariDomain(), "gymnasium": GymDomain()}
"""Name -> domain; the first that knows an environment has it."""

NO_CARD: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """Where the agent lives."""

    env: str = "pong"
    """An Atari game by its ROM's name (pong, ms_pacman, …) or a Gymnasium id (CartPole-v1, …)."""
    domain: str = "auto"
    """The family of environments, or your own as MODULE:NAME; auto: the first that knows env."""
    num_envs: Annotated[int, Meta(ge=1, le=65_536)] = 16
    """Environments in parallel; in distilling 4 where env_steps is below 8,000."""
    only: str = ""
    """Act only in a part of the states that the domain names (pong: ball-top, ball-bottom);
    elsewhere the last action is repeated and nothing counts, or, as in ball-top:2, only in every
    other step."""
    atari: AtariSettings = field(default_factory=AtariSettings)
    gymnasium: GymSettings = field(default_factory=GymSettings)


def domain_of(config: EnvironmentConfig) -> Domain:
    """Return the domain that ``config`` names, or the first that knows its environment.

    Raises UserError for a domain that there is not.
    """
    if config.domain == "auto":
        return next(domain for domain in DOMAINS.values() if domain.knows(config.env))
    if ":" in config.domain:
        found = load_object("domain", config.domain, DOMAINS)
        domain: Domain = found() if isinstance(found, type) else found
        if not hasattr(domain, "make") or not hasattr(domain, "about"):
            raise UserError(f"domain {config.domain!r} is no domain: it has no make and no about")
        return domain
    return look_up("domain", config.domain, DOMAINS)


def about(config: EnvironmentConfig) -> About:
    """Return what is known of an environment."""
    return domain_of(config).about(config.env)


def usual_target(config: EnvironmentConfig) -> float:
    """Return the mean return at which an environment counts as mastered.

    Raises UserError where none is known.
    """
    target = about(config).target
    if target is None:
        raise UserError(
            f"no target is known for {config.env}: name one by `target_return`, or none"
        )
    return target


def make(
    config: EnvironmentConfig,
    *,
    seed: int,
    stream: str = "training",
    threads: int = 0,
    episodes: npt.NDArray[np.int64] | float = np.inf,
) -> Environments:
    """Build the environments that ``config`` names.

    ``threads`` emulator threads, where there are such (0: as many as the machine has). Raises
    UserError for what cannot be built.
    """
    domain = domain_of(config)
    _refuse_others(config, domain)
    region = _parse_only(config, domain.about(config.env).regions) if config.only else None
    envs = domain.make(
        config.env,
        num_envs=config.num_envs,
        settings=_settings(config, domain),
        seed=seed,
        stream=stream,
        threads=threads,
        episodes=episodes,
    )
    envs.name = config.env
    return Restricted(envs, *region) if region else envs


def spaces_of(config: EnvironmentConfig) -> Spaces:
    """Return the spaces of an environment; raise UserError for one that cannot be built."""
    envs = make(replace(config, num_envs=1, only=""), seed=0, threads=1)
    envs.close()
    return envs.spaces


def camera(config: EnvironmentConfig, *, seed: int, stream: str) -> Environments:
    """Build one environment that observes itself in colour (see ``Domain.camera``)."""
    domain = domain_of(config)
    return domain.camera(config.env, settings=_settings(config, domain), seed=seed, stream=stream)


def preprocessing(config: EnvironmentConfig) -> Mapping[str, Any]:
    """Return what is done to observations; nothing for a domain from outside that does not say."""
    domain = domain_of(config)
    if not hasattr(domain, "preprocessing"):
        return {}
    return domain.preprocessing(config.env, settings=_settings(config, domain))


def actions_of(config: EnvironmentConfig, size: int) -> tuple[int, ...]:
    """Return the place of each of an environment's actions among those of its whole domain.

    Where the domain knows of none they are the first ``size``.
    """
    domain = domain_of(config)
    if not hasattr(domain, "actions"):
        return tuple(range(size))
    known: tuple[int, ...] = domain.actions(config.env, settings=_settings(config, domain))
    return known


def environment_of(
    env: str, obs_shape: tuple[int, ...] | None, card: Mapping[str, Any] = NO_CARD
) -> EnvironmentConfig:
    """Return the environment that a model with such observations and such a card was made for."""
    config = EnvironmentConfig(env=env)
    domain = domain_of(config)
    if obs_shape is not None and isinstance(domain, AtariDomain):
        config = replace(config, atari=domain.seen(obs_shape, card))
    return config


def as_made(
    config: EnvironmentConfig, env: str, obs_shape: tuple[int, ...] | None, card: Mapping[str, Any]
) -> EnvironmentConfig:
    """Return ``config`` in the environment of a model, with its game's settings where usual ones.

    What ``config`` has otherwise than usual was asked for, and stays.
    """
    made, usual = vars(environment_of(env, obs_shape, card).atari), vars(AtariSettings())
    known = {name: value for name, value in made.items() if value != usual[name]}
    asked = {name: value for name, value in vars(config.atari).items() if value != usual[name]}
    return settled(replace(config, env=env, atari=AtariSettings(**{**known, **asked})))


def settled(config: EnvironmentConfig) -> EnvironmentConfig:
    """Return ``config`` with nothing left open: actions stick where that was asked for."""
    return replace(config, atari=replace(config.atari, sticky=config.atari.sticky or 0.0))


def as_evaluated(config: EnvironmentConfig) -> EnvironmentConfig:
    """Return the environment without what is for training only."""
    return replace(config, atari=replace(config.atari, clip_rewards=False, life_loss=False))


def as_teacher(config: EnvironmentConfig) -> EnvironmentConfig:
    """Return the environment as a teacher sees it, who may see another part than the student."""
    seen = replace(config.gymnasium, student_view=config.gymnasium.teacher_view)
    return replace(config, gymnasium=seen)


def _settings(config: EnvironmentConfig, domain: Domain) -> AtariSettings | GymSettings | None:
    """Return the settings of a domain's own, None for one from outside."""
    names = [name for name, one in DOMAINS.items() if one is domain]
    settings: AtariSettings | GymSettings | None = (
        getattr(config, names[0], None) if names else None
    )
    return settings


def _refuse_others(config: EnvironmentConfig, domain: Domain) -> None:
    """Raise UserError for a setting of another domain than the environment's, where it matters."""
    for name, other in DOMAINS.items():
        given, usual = (vars(getattr(of, name)) for of in (config, EnvironmentConfig()))
        unlike = [key for key in given if (given[key] or None) != (usual[key] or None)]
        if other is not domain and unlike:
            raise UserError(
                f"{unlike[0]} is a setting of {name} environments, this is {config.env}"
            )


def _parse_only(config: EnvironmentConfig, regions: Mapping[str, Region]) -> tuple[Region, float]:
    """Return the region and how often the agent acts outside of it, as ``ball-top:2`` spells."""
    text, env = config.only, config.env
    name, colon, number = text.partition(":")
    if not regions:
        raise UserError(f"only {text!r}: no region is known of {env}")
    region = look_up("region", name, regions)
    if not colon:
        return region, np.inf
    if not number.isdecimal() or not int(number[:9]) >= 2 or len(number) > 9:
        raise UserError(f"only {text!r}: expected a whole number of 2 or more, as in {name}:2")
    return region, int(number)
