"""Evaluation: whole episodes, counted fairly, with an interval that covers."""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tutelage import EnvironmentConfig, Evaluation, evaluate, load
from tutelage.evaluation import Abandoned, examine
from tutelage.teachers import environment_of

CARTPOLE = EnvironmentConfig(env="CartPole-v1")


def lean(obs: Tensor) -> Tensor:
    """Push towards where the pole leans: falls after some dozens of steps."""
    angle = obs[:, 0, 2]
    return torch.stack([-angle, angle], dim=1)


@pytest.mark.parametrize("episodes", [1, 7, 32, 45])
def test_as_many_episodes_are_played_as_were_asked_for(episodes: int) -> None:
    evaluation = evaluate(lean, CARTPOLE, episodes=episodes)
    assert len(evaluation.returns) == episodes
    np.testing.assert_array_equal(evaluation.returns, evaluation.lengths)


def test_short_episodes_are_not_over_represented() -> None:
    """Of 64 episodes every one of the 32 environments plays two, however long the others take."""
    both = evaluate(lean, CARTPOLE, episodes=64, seed=3)
    first = evaluate(lean, CARTPOLE, episodes=32, seed=3)
    remaining = sorted(both.returns.tolist())
    for value in first.returns.tolist():
        remaining.remove(value)
    assert len(remaining) == 32


def test_the_same_seed_plays_the_same_episodes_and_another_stream_does_not() -> None:
    once = evaluate(lean, CARTPOLE, episodes=16, seed=1)
    again = evaluate(lean, CARTPOLE, episodes=16, seed=1)
    other = evaluate(lean, CARTPOLE, episodes=16, seed=1, stream="training")
    np.testing.assert_array_equal(once.returns, again.returns)
    assert not np.array_equal(np.sort(once.returns), np.sort(other.returns))


def test_rewards_are_never_clipped() -> None:
    config = EnvironmentConfig(env="freeway", clip_rewards=True, noop_max=0)
    up = evaluate(lambda obs: torch.eye(3)[[1] * len(obs)], config, episodes=1)
    assert up.returns[0] > 10.0


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    lengths = np.ones(30, np.int64)
    covered = 0
    for _ in range(300):
        low, high = Evaluation(rng.normal(5.0, 2.0, 30), lengths).interval(resamples=1_000)
        covered += low <= 5.0 <= high
    assert 0.89 <= covered / 300 <= 0.98


def test_the_summary_has_the_names_used_everywhere() -> None:
    summary = Evaluation(np.array([1.0, 3.0]), np.array([10, 30])).summary()
    assert summary["mean_return"] == 2.0
    assert summary["episodes"] == 2
    assert summary["min_return"] == 1.0
    assert summary["max_return"] == 3.0
    assert summary["mean_length"] == 20.0
    assert summary["reward_per_step"] == 0.1


# Stopping once a target is out of reach.

Obs = npt.NDArray[np.float32]
Script = Sequence[int]
SCRIPTED = EnvironmentConfig(env="Scripted-v0")


class Scripted(gymnasium.Env[Obs, np.int64]):
    """Gives the rewards of a script, which the episode's seed picks; remembers what it gave."""

    scripts: Sequence[Script] = ()
    played: list["Scripted"] = []  # noqa: RUF012 (all that were ever built)

    def __init__(self, **_: Any) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,))
        self.action_space = gymnasium.spaces.Discrete(2)
        self.episodes: list[list[float]] = []
        self.played.append(self)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        self._script = self.scripts[(seed or 0) % len(self.scripts)]
        self.episodes.append([])
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        episode = self.episodes[-1]
        episode.append(float(self._script[len(episode)]))
        over = len(episode) == len(self._script)
        return np.zeros(1, np.float32), episode[-1], over, False, {}


@pytest.fixture(autouse=True, scope="module")
def _scripted() -> Iterator[None]:
    gymnasium.register("Scripted-v0", entry_point=Scripted, disable_env_checker=True)
    yield
    gymnasium.registry.pop("Scripted-v0")


def anything(obs: Tensor) -> Tensor:
    return torch.zeros(len(obs), 2)


def played(*scripts: Script, episodes: int, target: float, most: float) -> Evaluation | Abandoned:
    Scripted.scripts = scripts
    Scripted.played.clear()
    return examine(anything, SCRIPTED, target=target, most=most, episodes=episodes)


LOSING = [-1, 0, 1, -1, 1, -1, 1]
"""Of 3 points for and 3 against: a return of at most 2, 1 and 0 after steps 1, 4 and 6."""


@pytest.mark.parametrize(
    ("target", "steps", "expected"),
    [
        (2.5, 1, Abandoned(2.0, -1.0)),
        (2.0, 4, Abandoned(1.0, -1.0 / 4.0)),
        (0.5, 6, Abandoned(0.0, -1.0 / 6.0)),
        (3.5, 0, Abandoned(3.0, 0.0)),
    ],
)
def test_it_stops_in_the_very_step_that_puts_the_target_out_of_reach(
    target: float, steps: int, expected: Abandoned
) -> None:
    assert played(LOSING, episodes=4, target=target, most=3.0) == expected
    assert [len(env.episodes[0]) for env in Scripted.played] == [steps] * 4


def test_it_is_not_stopped_while_the_target_is_exactly_in_reach() -> None:
    evaluation = played(LOSING, episodes=4, target=0.0, most=3.0)
    assert isinstance(evaluation, Evaluation)
    assert (evaluation.returns.tolist(), evaluation.lengths.tolist()) == ([0.0] * 4, [7] * 4)


def test_what_is_lost_in_one_episode_is_not_held_against_the_next() -> None:
    """Each of 32 environments plays two: 1 point lost in each, all that the target allows."""
    evaluation = played([-1, 1, 1], episodes=64, target=1.0, most=2.0)
    assert isinstance(evaluation, Evaluation)
    assert evaluation.mean == 1.0


def reference(
    envs: Sequence[Scripted], *, episodes: int, target: float, most: float
) -> Abandoned | None:
    """Follow step by step what the first episodes of all environments gave."""
    halves = [share for share in (episodes - episodes // 2, episodes // 2) if share]
    quotas = [len(range(i, half, min(half, 16))) for half in halves for i in range(min(half, 16))]
    wanted = [env.episodes[:quota] for env, quota in zip(envs, quotas, strict=True)]
    steps = max(sum(map(len, of)) for of in wanted)
    for time in range(steps):  # in the very last step nothing is left to stop
        total, rewards, number = 0.0, 0.0, 0
        for of in wanted:
            left = time
            for episode in of:
                shown, left = episode[:left], left - min(left, len(episode))
                rewards, number = rewards + sum(shown), number + len(shown)
                over = len(shown) == len(episode)
                total += sum(shown) if over else most + sum(min(r, 0.0) for r in shown)
        if total / episodes < target:
            return Abandoned(total / episodes, rewards / max(number, 1))
    return None


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(-1, 1), min_size=1, max_size=6), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(-20, 20).map(lambda quarter: quarter / 4.0),
)
@example([[1, 1], [-1, -1, -1, 1]], 40, 0.0)
def test_it_is_the_whole_evaluation_or_an_upper_bound_of_its_mean(
    scripts: list[list[int]], episodes: int, target: float
) -> None:
    most = float(max(sum(reward > 0 for reward in script) for script in scripts))
    examined = played(*scripts, episodes=episodes, target=target, most=most)
    Scripted.played.clear()
    whole = evaluate(anything, SCRIPTED, episodes=episodes)
    expected = reference(Scripted.played, episodes=episodes, target=target, most=most)
    if isinstance(examined, Abandoned):
        assert expected is not None
        assert examined.at_most == pytest.approx(expected.at_most, abs=1e-9)
        assert examined.reward_per_step == pytest.approx(expected.reward_per_step, abs=1e-9)
        assert whole.mean - 1e-9 <= examined.at_most < target
    else:
        assert expected is None
        np.testing.assert_array_equal(examined.returns, whole.returns)
        np.testing.assert_array_equal(examined.lengths, whole.lengths)


def test_a_hopeless_player_of_real_pong_is_found_out_within_a_fraction_of_its_game() -> None:
    """Standing still loses 0 to 21 after 764 steps; two games for 20 allow two points."""
    asked = [0]

    def still(obs: Tensor) -> Tensor:
        asked[0] += len(obs)
        return torch.eye(6)[torch.zeros(len(obs), dtype=torch.int64)]

    pong = environment_of(load("pong"))
    abandoned = examine(still, pong, target=20.0, most=21.0, episodes=2, threads=1)
    assert isinstance(abandoned, Abandoned)
    assert abandoned.at_most == 19.5
    assert abandoned.reward_per_step == pytest.approx(-3.0 / asked[0], rel=0.02)
    assert asked[0] < 2 * 764 / 4
