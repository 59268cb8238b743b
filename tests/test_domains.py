"""Domains: what is known of an environment, how it is made, and what cannot be."""

import sys
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests import point_pole
from tests.clock import clocks
from tests.players import refusal
from tutelage.configs import Distill
from tutelage.domains import (
    DOMAINS,
    About,
    EnvironmentConfig,
    about,
    as_evaluated,
    as_made,
    camera,
    domain_of,
    environment_of,
    gym,
    make,
    usual_target,
)
from tutelage.domains.atari import TWO_SIDED, AtariSettings
from tutelage.environments import Environments, Restricted
from tutelage.errors import UserError
from tutelage.recipes.distilling import in_environment
from tutelage.schema import build
from tutelage.sweeps.tasks import task_of


def config_of(env: str, **settings: Any) -> EnvironmentConfig:
    return build(EnvironmentConfig, {"num_envs": 2, "env": env, **settings})


# What is known.


@pytest.mark.parametrize(
    ("env", "domain"),
    [
        ("pong", "atari"),
        ("ms_pacman", "atari"),
        ("CartPole-v1", "gymnasium"),
        (point_pole.ENV, "gymnasium"),
        ("nowhere-v0", "gymnasium"),
    ],
)
def test_the_first_domain_that_knows_an_environment_has_it(env: str, domain: str) -> None:
    assert domain_of(config_of(env)) is DOMAINS[domain]


def test_points_are_of_games_that_one_side_wins_and_the_other_loses() -> None:
    for env in ("pong", "tennis", "fishing_derby", "surround", "othello"):
        ends = about(config_of(env)).segment_ends
        assert ends is not None
        assert env in TWO_SIDED
    for env in ("breakout", "ms_pacman", "CartPole-v1", "nowhere-v0"):
        assert about(config_of(env)).segment_ends is None
    assert all(DOMAINS["atari"].knows(game) for game in TWO_SIDED)
    step = clocks(lengths=[1, 9, 9]).step(np.array([0, 2, 0]))  # an end, a point, nothing
    assert ends is not None
    assert ends(step).tolist() == [True, True, False]


def test_the_usual_target_is_the_papers_or_gymnasiums() -> None:
    targets = [usual_target(config_of(env)) for env in ("pong", "CartPole-v1", point_pole.ENV)]
    assert targets == [20.0, 475.0, 20.0]
    for env in ("breakout", "Pendulum-v1", "nowhere-v0"):
        with pytest.raises(UserError, match=f"{env}.*target_return"):
            usual_target(config_of(env))


def test_a_model_is_played_on_frames_as_it_was_made_for() -> None:
    assert environment_of("pong", (4, 80, 80)).atari.frame == 80
    assert environment_of("pong", (4, 84, 84)) == EnvironmentConfig(env="pong")
    assert environment_of("CartPole-v1", (1, 4)) == EnvironmentConfig(env="CartPole-v1")


def test_a_model_is_played_by_the_settings_of_the_game_on_its_card() -> None:
    config = config_of(
        "breakout", full_actions=True, fire_reset=True, pool_frames=4, sticky=0.25, life_loss=True
    )
    card = {"config": {"environment": asdict(config)}}
    assert environment_of("breakout", (4, 84, 84), card).atari == AtariSettings(
        full_actions=True, fire_reset=True, pool_frames=4, sticky=0.25
    )
    odd: Any
    for odd in ({}, {"config": 3}, {"config": {"environment": {"atari": {"full_actions": "no"}}}}):
        assert environment_of("breakout", (4, 84, 84), odd).atari == AtariSettings()


def test_an_environment_left_to_a_model_is_as_its_card_says_but_for_what_is_asked() -> None:
    card = {"config": {"environment": {"atari": {"full_actions": True, "sticky": 0.1}}}}
    assert as_made(config_of("auto"), "breakout", (4, 84, 84), card).atari.sticky == 0.1
    assert as_made(config_of("auto", sticky=0.0), "breakout", None, card).atari.sticky == 0.0
    asked = config_of("auto", sticky=0.25, pool_frames=4)
    assert as_made(asked, "breakout", (4, 80, 80), card) == config_of(
        "breakout", sticky=0.25, pool_frames=4, full_actions=True, frame=80
    )


@pytest.mark.parametrize(
    ("settings", "sticky"),
    [({}, 0.25), ({"sticky": 0.0}, 0.0), ({"sticky": 0.5}, 0.5), ({"env": "pong"}, 0.0)],
)
def test_a_student_plays_the_game_that_its_teacher_was_trained_on(
    settings: dict[str, Any], sticky: float
) -> None:
    asked = {"teachers": ["pong-sticky"], **settings}
    task = task_of(asked).config
    assert isinstance(task, Distill)
    for config in (in_environment(build(Distill, asked)), task):
        assert config.environment.atari.sticky == sticky


def test_evaluation_leaves_out_what_is_for_training_only() -> None:
    training = config_of("breakout", clip_rewards=True, life_loss=True, sticky=0.25)
    assert as_evaluated(training).atari == AtariSettings(sticky=0.25)


# How they are made.


@pytest.mark.parametrize(
    ("env", "shape"),
    [("CartPole-v1", (1, 4)), ("MountainCar-v0", (1, 2)), ("Acrobot-v1", (1, 6))],
)
def test_vectors_are_a_stack_of_one(env: str, shape: tuple[int, ...]) -> None:
    envs = make(config_of(env), seed=1)
    assert (envs.obs.shape, str(envs.obs.dtype)) == ((2, *shape), "float32")
    envs.close()


def test_a_package_may_declare_what_it_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    def register() -> None:
        gymnasium.register("Declared/Cart-v0", "gymnasium.envs.classic_control:CartPoleEnv")

    declared = [
        SimpleNamespace(module="tests.point_pole", load=lambda: register),
        SimpleNamespace(module="another", load=lambda: pytest.fail("nobody named it")),
    ]
    monkeypatch.setattr(gym, "entry_points", lambda group: declared)
    try:
        envs = make(config_of("tests:Declared/Cart-v0"), seed=0)
        assert envs.obs_shape == (1, 4)
        envs.close()
    finally:
        gymnasium.registry.pop("Declared/Cart-v0", None)


def test_a_game_that_merely_shares_its_name_with_a_rom_is_made() -> None:
    def mini(**options: Any) -> gymnasium.Env[Any, Any]:
        assert options.pop("game") == "breakout"
        return gymnasium.make("CartPole-v1", **options)

    gymnasium.register("Mini/Breakout-v1", entry_point=mini, kwargs={"game": "breakout"})
    envs = make(config_of("Mini/Breakout-v1"), seed=1)
    assert envs.obs.shape == (2, 1, 4)
    envs.close()
    gymnasium.registry.pop("Mini/Breakout-v1")


def test_a_region_restricts_what_its_domain_makes() -> None:
    half = make(config_of("pong", only="ball-top:2"), seed=1, threads=1)
    assert isinstance(half, Restricted)
    assert half.inside.tolist() == [False, False]  # a game begins without a ball
    half.step(np.zeros(2, np.int64))
    assert half.inside.tolist() == [True, True]
    half.close()


@pytest.mark.parametrize("env", ["pong", "CartPole-v1"])
def test_a_camera_stays_in_step_with_the_first_of_the_environments(env: str) -> None:
    config = config_of(env)
    envs = make(config, seed=3, stream="film", threads=1)
    seen = camera(config, seed=3, stream="film")
    rng = np.random.default_rng(0)
    assert seen.obs.dtype == np.uint8
    assert seen.obs.shape[0] == 1
    assert seen.obs.shape[-1] == 3
    steps, differs = 0, False
    for _ in range(60 if env == "pong" else 120):
        action = rng.integers(2, size=2)
        before = seen.obs
        ours, shown = envs.step(action), seen.step(action[:1])
        assert (ours.reward[0], ours.terminated[0]) == (shown.reward[0], shown.terminated[0])
        differs |= bool((seen.obs != before).any())
        steps += int(ours.terminated[0])
    assert differs
    assert steps > 0 or env == "pong"
    for one in (envs, seen):
        one.close()


# What cannot be.


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"env": "pong2"}, ["'pong2'", "ROM", "CartPole-v1"]),
        ({"env": ""}, ["''", "CartPole-v1"]),
        ({"env": "ALE/Pong-v5"}, ["'ALE/Pong-v5'", "its ROM, pong"]),
        ({"env": "MsPacmanNoFrameskip-v4"}, ["its ROM, ms_pacman"]),
        ({"env": "CartPole-v7"}, ["'CartPole-v7'", "v1"]),
        ({"env": "no:Such-v0"}, ["'no:Such-v0'"]),
        ({"env": "breakout", "domain": "gymnasium"}, ["'breakout'"]),
        ({"env": "CartPole-v1", "domain": "atari"}, ["'CartPole-v1'", "ROM"]),
        ({"env": "CartPole-v1", "domain": "mujoco"}, ["'mujoco'", "atari, gymnasium"]),
        ({"env": "CartPole-v1", "domain": "no.such:Domain"}, ["no.such", "MODULE:NAME"]),
        ({"env": "CartPole-v1", "domain": "math:tau2"}, ["math", "'tau2'"]),
        ({"env": "CartPole-v1", "domain": "math:tau"}, ["'math:tau'", "no domain"]),
        ({"env": "pong", "only": "ball-left"}, ["'ball-left'", "ball-bottom, ball-top"]),
        ({"env": "pong", "only": "ball-top:"}, ["'ball-top:'", "2 or more"]),
        ({"env": "pong", "only": "ball-top:1"}, ["'ball-top:1'", "2 or more"]),
        ({"env": "pong", "only": "ball-top:two"}, ["'ball-top:two'", "whole number"]),
        ({"env": "pong", "only": f"ball-top:{9**99}"}, ["ball-top:", "2 or more"]),
        ({"env": "CartPole-v1", "only": "ball-top"}, ["'ball-top'", "no region", "CartPole-v1"]),
        ({"env": "breakout", "only": "ball-top"}, ["no region", "breakout"]),
        ({"env": "CartPole-v1", "sticky": 0.25}, ["sticky", "atari", "CartPole-v1"]),
        ({"env": "CartPole-v1", "clip_rewards": True}, ["clip_rewards", "atari", "CartPole-v1"]),
        ({"env": "pong", "vector": "async"}, ["vector", "gymnasium", "pong"]),
    ],
)
def test_what_cannot_be_built_is_named_with_what_could(
    asked: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        make(config_of(**asked), seed=1, threads=1)
    line = str(caught.value)
    assert all(word in line for word in words), line
    assert "\n" not in line


def test_an_environment_whose_constructor_fails_is_named() -> None:
    def broken(**_: Any) -> gymnasium.Env[Any, Any]:
        raise RuntimeError("no licence")

    gymnasium.register("Broken-v0", entry_point=broken)
    with pytest.raises(UserError, match=r"Broken-v0.*no licence"):
        make(config_of("Broken-v0"), seed=1)
    gymnasium.registry.pop("Broken-v0")


def test_without_the_emulator_an_atari_game_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ale_py", "ale_py.roms", "ale_py.vector_env"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install .*atari"):
        make(config_of("pong"), seed=1)


# From outside of the package.


class Clocks:
    """A family of clocks, ``clock-N`` of N steps an episode."""

    def knows(self, env: str) -> bool:
        return env.startswith("clock-")

    def about(self, env: str) -> About:
        return About(target=3.0, regions={"early": lambda obs: obs[:, -1, 1] < 2})

    def make(self, env: str, *, num_envs: int, seed: int, stream: str, **_: Any) -> Environments:
        return clocks(lengths=[int(env[6:])] * num_envs, seed=seed, stream=stream)

    def camera(self, env: str, **_: Any) -> Environments:
        raise UserError(f"{env} has no face")


def test_a_domain_of_ones_own_is_named_by_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    mine = f"{__name__}:Clocks"
    config = config_of("clock-5", domain=mine, only="early")
    envs = make(config, seed=1)
    assert [envs.step(np.ones(2, np.int64)).reward.tolist() for _ in range(3)] == [
        *[[1.0, 1.0]] * 2,
        [0.0, 0.0],
    ]
    assert usual_target(config) == 3.0
    with pytest.raises(UserError, match="no face"):
        camera(config, seed=1, stream="film")
    with pytest.raises(UserError, match="sticky"):
        make(config_of("clock-5", domain=mine, sticky=0.1), seed=1)
    words = ["teach", "--env", "clock-5", "--domain", mine, "--size", "teacher", "--threads", "1"]
    line = refusal(words, capsys)
    assert "size" in line  # its observations are no frames


def test_one_may_be_an_object_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elsewhere", SimpleNamespace(clocks=Clocks()))
    assert make(config_of("clock-2", domain="elsewhere:clocks"), seed=1).num_envs == 2
