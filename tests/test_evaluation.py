"""Evaluation: whole episodes, counted fairly, with an interval that covers."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage import EnvironmentConfig, Evaluation, evaluate

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
