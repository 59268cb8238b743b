"""What holds of any environments: seeds, ends of episodes, going back, bad configurations."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest

from tests import point_pole
from tests.clock import clocks
from tutelage.domains.atari import (
    TWO_SIDED,
    EnvironmentConfig,
    has_segments,
    is_atari,
    make,
    usual_target,
)
from tutelage.domains.pong import Region
from tutelage.environments import Environments, Step
from tutelage.errors import UserError
from tutelage.files import pack_state, unpack_state

CARTPOLE = EnvironmentConfig(env="CartPole-v1", num_envs=4)
Actions = npt.NDArray[np.int64]


def balance(obs: npt.NDArray[np.float32]) -> Actions:
    """Keep CartPole's pole up, and its cart near the middle."""
    return (obs[:, -1] @ np.array([0.05, 0.1, 1.0, 0.5], np.float32) > 0).astype(np.int64)


def assert_same(a: Step, b: Step) -> None:
    for name, value in vars(a).items():
        np.testing.assert_array_equal(value, getattr(b, name), err_msg=name)


def seeds(*, seed: int, stream: str = "training", episodes: int = 100) -> list[int]:
    """Return the seeds of the first episodes of eight environments."""
    envs = clocks(lengths=[1] * 8, seed=seed, stream=stream)
    shown = [envs.obs[:, 0, 0]]
    for _ in range(episodes - 1):
        envs.step(np.zeros(8, np.int64))
        shown.append(envs.obs[:, 0, 0])
    return [int(s) for s in np.concatenate(shown)]


def test_every_episode_of_every_environment_and_stream_has_a_seed_of_its_own() -> None:
    drawn = [
        *seeds(seed=1),
        *seeds(seed=2),
        *seeds(seed=1, stream="evaluation"),
        *seeds(seed=1, stream="evaluation-4000"),
        *seeds(seed=1, stream="recording"),
    ]
    assert len(set(drawn)) == len(drawn) == 5 * 8 * 100
    assert all(0 <= s < 2**31 for s in drawn)


def test_the_seed_alone_says_which_episodes_are_played() -> None:
    assert seeds(seed=1) == seeds(seed=1)
    short, long = clocks(lengths=[2, 3]), clocks(lengths=[5, 5])
    first = []
    for envs in (short, long):
        shown: list[set[int]] = [set(), set()]
        for _ in range(10):
            for i in range(2):
                shown[i].add(int(envs.obs[i, 0, 0]))
            envs.step(np.zeros(2, np.int64))
        first.append(shown)
    # However long episodes are, the k-th of an environment is the same one.
    assert all(few < many for few, many in zip(first[1], first[0], strict=True))


def test_episodes_beyond_those_that_count_are_not_seeded() -> None:
    def shown(envs: Environments) -> list[list[int]]:
        """Return the seeds that each environment shows, one after the other."""
        seen: list[list[int]] = [[], []]
        for _ in range(20):
            for log, seed in zip(seen, envs.obs[:, 0, 0].tolist(), strict=True):
                if seed not in log:
                    log.append(seed)
            envs.step(np.zeros(2, np.int64))
        return seen

    (few, more), (first, second) = (
        shown(clocks(lengths=[2, 3], episodes=np.array([1, 3]))),
        shown(clocks(lengths=[2, 3])),
    )
    assert few == [first[0], 0]
    assert more == [*second[:3], 0]


def test_what_a_step_led_to_is_not_what_the_policy_acts_on_next_after_an_end() -> None:
    envs = clocks(lengths=[2, 3])
    begun = envs.obs[:, 0, 0].copy()
    envs.step(np.array([1, 1]))
    step = envs.step(np.array([2, 3]))
    np.testing.assert_array_equal(step.next_obs[:, 0], np.stack([begun, [2, 2]], axis=1))
    np.testing.assert_array_equal(step.terminated, [True, False])
    assert step.finished == ((3.0, 2),)
    assert envs.obs[0, 0, 0] != begun[0]
    np.testing.assert_array_equal(envs.obs[:, 0, 1], [0, 2])
    step = envs.step(np.array([1, 1]))
    np.testing.assert_array_equal(step.next_obs[:, 0, 1], [1, 3])
    assert step.finished == ((5.0, 3),)


@pytest.mark.parametrize(("terminates", "truncates"), [(True, False), (False, True), (True, True)])
def test_an_end_is_either_a_termination_or_a_truncation(terminates: bool, truncates: bool) -> None:
    envs = clocks(lengths=[1, 2], terminates=terminates, truncates=truncates)
    step = envs.step(np.zeros(2, np.int64))
    np.testing.assert_array_equal(step.terminated, [terminates, False])
    np.testing.assert_array_equal(step.truncated, [truncates and not terminates, False])
    assert step.finished == ((0.0, 1),)


def test_observations_and_rewards_are_not_overwritten_by_later_steps() -> None:
    envs = clocks(lengths=[3, 4])
    first = envs.obs
    held = [envs.step(np.ones(2, np.int64)) for _ in range(6)]
    np.testing.assert_array_equal(first[:, 0, 1], 0)
    np.testing.assert_array_equal([s.next_obs[0, 0, 1] for s in held], [1, 2, 3, 1, 2, 3])
    np.testing.assert_array_equal([s.terminated[0] for s in held], [False, False, True] * 2)
    np.testing.assert_array_equal([s.reward[1] for s in held], np.ones(6, np.float32))


def test_a_balanced_cartpole_is_truncated_after_500_steps() -> None:
    envs = make(CARTPOLE, seed=1)
    for _ in range(499):
        assert envs.step(balance(envs.obs)).finished == ()
    step = envs.step(balance(envs.obs))
    assert step.truncated.all()
    assert not step.terminated.any()
    assert step.finished == ((500.0, 500),) * 4
    assert (np.abs(envs.obs) <= 0.05).all()
    assert (step.next_obs != envs.obs).any(axis=(1, 2)).all()


def test_a_fallen_cartpole_shows_the_true_last_observation() -> None:
    envs = make(CARTPOLE, seed=1)
    ends = 0
    for _ in range(60):
        step = envs.step(np.ones(4, np.int64))
        angle = np.abs(step.next_obs[:, 0, 2])
        np.testing.assert_array_equal(step.terminated, angle > 12 * np.pi / 180)
        assert (np.abs(envs.obs[step.terminated]) <= 0.05).all()
        assert [r for r, _ in step.finished] == [n for _, n in step.finished]
        ends += len(step.finished)
    assert ends > 16


def wander(envs: Environments, rng: np.random.Generator, *, steps: int) -> list[Step]:
    return [envs.step(rng.integers(2, size=envs.num_envs)) for _ in range(steps)]


@pytest.mark.parametrize("steps", [0, 1, 5, 41])
def test_cartpole_goes_back_to_where_it_was_in_the_middle_of_episodes(
    steps: int, tmp_path: Path
) -> None:
    original = make(CARTPOLE, seed=1)
    rng = np.random.default_rng(0)
    wander(original, rng, steps=steps)
    while steps > 5 and not wander(original, rng, steps=1)[-1].finished:
        pass  # until an environment has just been reset and others are under way
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    restored = make(CARTPOLE, seed=1)
    wander(restored, np.random.default_rng(1), steps=30)
    restored.restore(unpack_state(tmp_path / "state"))
    lengths = original.state()["lengths"]
    assert steps <= 5 or (lengths.min() == 0 and len(set(lengths.tolist())) >= 3)
    np.testing.assert_array_equal(restored.obs, original.obs)
    later = [wander(envs, np.random.default_rng(2), steps=150) for envs in (original, restored)]
    assert sum(len(step.finished) for step in later[0]) > 8
    for a, b in zip(*later, strict=True):
        assert_same(a, b)
    np.testing.assert_array_equal(restored.obs, original.obs)


def early(obs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """A region of the clock: steps 1, 2 and 5 of an episode, but not 0, 3 and 4."""
    return np.isin(obs[:, -1, 1], [1, 2, 5])


def test_outside_of_a_region_the_last_action_is_repeated_and_no_reward_counts() -> None:
    """A clock's reward is the action; one episode of 6 steps beside one of 2 and another."""
    envs = clocks(lengths=[6, 2], region=early)
    wished = [[1, 1], [2, 3], [3, 2], [1, 1], [2, 2], [1, 3]]
    labels = np.zeros((2, 4), np.float32)
    played = [envs.play(np.array(action), labels) for action in wished]
    inside = [[0, 0], [1, 1], [1, 0], [0, 1], [0, 0], [1, 1]]
    np.testing.assert_array_equal([step.inside for step in played], inside)
    # An episode that begins outside has no last action: 0.
    done = [[0, 0], [2, 3], [3, 0], [3, 1], [3, 0], [1, 3]]
    np.testing.assert_array_equal([step.action for step in played], done)
    counts = [[0, 0], [2, 3], [3, 0], [0, 1], [0, 0], [1, 3]]
    np.testing.assert_array_equal([step.reward for step in played], counts)


def never(obs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """A region that no step is in."""
    return np.zeros(len(obs), np.bool_)


@pytest.mark.parametrize(
    ("region", "every", "inside"),
    [
        # Steps 0, 3 and 4 of the longer episode are outside, step 4 for the second time on end.
        (early, 2, [[0, 0], [1, 1], [1, 0], [0, 1], [1, 0], [1, 1]]),
        # A new episode counts anew.
        (never, 2, [[0, 0], [1, 1], [0, 0], [1, 1], [0, 0], [1, 1], [0, 0], [1, 1]]),
        (never, 3, [[0, 0], [0, 0], [1, 0], [0, 0], [0, 0], [1, 0], [0, 0], [0, 0]]),
    ],
)
def test_outside_of_a_region_the_agent_may_act_every_so_often(
    region: Region, every: int, inside: list[list[int]]
) -> None:
    """A clock's reward is the action."""
    envs = clocks(lengths=[6, 2], region=region, every=every)
    played = [envs.play(np.array([2, 3]), np.zeros((2, 4), np.float32)) for _ in inside]
    np.testing.assert_array_equal([step.inside for step in played], inside)
    np.testing.assert_array_equal(
        [step.reward for step in played], np.array(inside) * np.array([2, 3])
    )


def test_a_return_is_of_what_was_gained_inside_the_region() -> None:
    envs = clocks(lengths=[6, 2], region=early)
    finished = [envs.step(np.array([2, 3])).finished for _ in range(6)]
    assert finished == [(), ((3.0, 2),), (), ((3.0, 2),), (), ((6.0, 6), (3.0, 2))]


def test_what_is_really_done_is_said_before_it_is() -> None:
    envs = clocks(lengths=[6, 2], region=early)
    np.testing.assert_array_equal(envs.send(np.array([1, 2])), [0, 0])
    envs.recv()
    np.testing.assert_array_equal(envs.send(np.array([1, 2])), [1, 2])


@pytest.mark.parametrize("every", [2, np.inf])
@pytest.mark.parametrize("steps", [0, 1, 4, 5, 20])
def test_environments_of_a_region_go_back_to_where_they_were(
    steps: int, every: float, tmp_path: Path
) -> None:
    original, restored = (clocks(lengths=[6, 5, 3], region=early, every=every) for _ in range(2))
    wander(original, np.random.default_rng(0), steps=steps)
    wander(restored, np.random.default_rng(1), steps=7)
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    np.testing.assert_array_equal(restored.obs, original.obs)
    np.testing.assert_array_equal(restored.inside, original.inside)
    later = [wander(envs, np.random.default_rng(2), steps=30) for envs in (original, restored)]
    for a, b in zip(*later, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"num_envs": 0}, ["num_envs", "0", "at least 1"]),
        ({"num_envs": -3}, ["num_envs", "-3", "at least 1"]),
        ({"sticky": 1.5}, ["sticky", "1.5", "[0, 1)"]),
        ({"sticky": -0.1}, ["sticky", "-0.1", "[0, 1)"]),
        ({"noop_max": -1}, ["noop_max", "-1", "at least 0"]),
        ({"sticky": float("nan")}, ["sticky", "nan", "[0, 1)"]),
        ({"frame": 99}, ["frame", "'99'", "80", "84"]),
        ({"env": "pong2"}, ["'pong2'", "pong, breakout", "CartPole-v1"]),
        ({"env": "ALE/Pong-v5"}, ["'ALE/Pong-v5'", "Atari game", "by its ROM, pong"]),
        ({"env": "MsPacmanNoFrameskip-v4"}, ["by its ROM, ms_pacman"]),
        ({"env": "CartPole-v7"}, ["'CartPole-v7'", "v1"]),
        ({"env": "no:Such-v0"}, ["'no:Such-v0'", "Gymnasium id"]),
        ({"env": "Pendulum-v1"}, ["'Pendulum-v1'", "Box", "discrete actions"]),
        ({"env": "Blackjack-v1"}, ["'Blackjack-v1'", "Tuple", "one array"]),
        ({"only": "ball-left"}, ["region", "'ball-left'", "ball-bottom, ball-top"]),
        ({"only": "ball-top:"}, ["only", "'ball-top:'", "2 or more", "ball-top:2"]),
        ({"only": "ball-top:1"}, ["'ball-top:1'", "2 or more"]),
        ({"only": "ball-top:two"}, ["'ball-top:two'", "whole number"]),
        ({"only": "ball:2"}, ["region", "'ball'", "ball-bottom, ball-top"]),
        ({"env": "CartPole-v1", "only": "ball-top"}, ["'ball-top'", "of pong", "CartPole-v1"]),
        ({"env": "breakout", "only": "ball-top"}, ["of pong", "breakout"]),
    ],
)
def test_what_cannot_be_built_is_named_with_what_could(
    asked: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        make(EnvironmentConfig(**{"num_envs": 2, **asked}), seed=1)
    for word in words:
        assert word in str(caught.value)


def test_a_game_that_merely_shares_its_name_with_a_rom_is_made() -> None:
    gymnasium.register(
        "Mini/Breakout-v1", entry_point=lambda **o: _mini(**o), kwargs={"game": "breakout"}
    )
    envs = make(EnvironmentConfig(env="Mini/Breakout-v1", num_envs=2), seed=1)
    assert envs.obs.shape == (2, 1, 4)
    envs.close()
    gymnasium.registry.pop("Mini/Breakout-v1")


def _mini(*, game: str, **options: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1", **options)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        *((game, True) for game in ("pong", "tennis", "fishing_derby", "surround", "othello")),
        *((game, False) for game in ("breakout", "ms_pacman", "CartPole-v1", "Acrobot-v1")),
        (point_pole.ENV, True),
        ("nowhere-v0", True),
    ],
)
def test_segments_are_of_games_that_one_side_wins_and_the_other_loses(
    env: str, expected: bool
) -> None:
    assert has_segments(env) == expected
    assert all(is_atari(game) for game in TWO_SIDED)


def test_the_usual_target_is_the_papers_or_gymnasiums() -> None:
    assert [usual_target(env) for env in ("pong", "CartPole-v1")] == [20.0, 475.0]
    for env in ("breakout", "Pendulum-v1", "nowhere-v0"):
        with pytest.raises(UserError, match=f"no target is known for {env}.*target_return"):
            usual_target(env)


def test_actions_that_do_not_count_from_0_are_refused() -> None:
    gymnasium.register("Shifted-v0", entry_point=lambda **_: _Shifted())
    with pytest.raises(UserError, match="from 0 on"):
        make(EnvironmentConfig(env="Shifted-v0", num_envs=1), seed=1)
    gymnasium.registry.pop("Shifted-v0")


class _Shifted(gymnasium.Env[npt.NDArray[np.float32], np.int64]):
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,))
    action_space = gymnasium.spaces.Discrete(3, start=-1)
