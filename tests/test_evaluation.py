"""Evaluation: whole episodes, counted fairly, with an interval that covers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.clock import Clock
from tests.fakes import Counter
from tutelage import EnvironmentConfig, Function, QValues, load
from tutelage.domains import environment_of
from tutelage.errors import UserError
from tutelage.evaluation import Abandoned, Bound, Evaluation, evaluate, examine
from tutelage.policies import Carry, Policy
from tutelage.schema import build
from tutelage.threads import owning

CARTPOLE = EnvironmentConfig(env="CartPole-v1")


def says(function: Callable[[Tensor], Tensor], actions: int = 2) -> Policy:
    return Function(function, QValues(actions))


def towards(obs: Tensor) -> Tensor:
    angle = obs[:, 0, 2]
    return torch.stack([-angle, angle], dim=1)


LEAN = says(towards)
"""Push towards where the pole leans: falls after some dozens of steps."""


@pytest.mark.parametrize("episodes", [1, 7, 32, 45])
def test_as_many_episodes_are_played_as_were_asked_for(episodes: int) -> None:
    evaluation = evaluate(LEAN, CARTPOLE, episodes=episodes)
    assert len(evaluation.returns) == episodes
    np.testing.assert_array_equal(evaluation.returns, evaluation.lengths)


def test_short_episodes_are_not_over_represented() -> None:
    """Of 64 episodes every one of the 32 environments plays two, however long the others take."""
    both = evaluate(LEAN, CARTPOLE, episodes=64, seed=3)
    first = evaluate(LEAN, CARTPOLE, episodes=32, seed=3)
    remaining = sorted(both.returns.tolist())
    for value in first.returns.tolist():
        remaining.remove(value)
    assert len(remaining) == 32


def test_the_same_seed_plays_the_same_episodes_and_another_stream_does_not() -> None:
    once = evaluate(LEAN, CARTPOLE, episodes=16, seed=1)
    again = evaluate(LEAN, CARTPOLE, episodes=16, seed=1)
    other = evaluate(LEAN, CARTPOLE, episodes=16, seed=1, stream="training")
    np.testing.assert_array_equal(once.returns, again.returns)
    assert not np.array_equal(np.sort(once.returns), np.sort(other.returns))


def test_rewards_are_never_clipped() -> None:
    # Ms. Pac-Man: ten points a dot, so that clipping would show.
    left, plain = says(lambda obs: torch.eye(9)[[3] * len(obs)], 9), {"env": "ms_pacman"}
    clipped, unclipped = (
        evaluate(left, build(EnvironmentConfig, {**plain, "clip_rewards": clip}), episodes=1)
        for clip in (True, False)
    )
    assert clipped.returns[0] == unclipped.returns[0] >= 10.0


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    lengths = np.ones(30, np.int64)
    covered = 0
    for _ in range(300):
        low, high = Evaluation(rng.normal(5.0, 2.0, 30), lengths).interval(resamples=1_000)
        covered += low <= 5.0 <= high
    assert 0.89 <= covered / 300 <= 0.98


def test_the_figures_are_what_the_hand_computes() -> None:
    figures = Evaluation(np.array([1.0, 3.0]), np.array([10, 30]), cut=1).figures()
    assert figures == {
        "mean_return": 2.0,
        "ci95": [1.0, 3.0],
        "min_return": 1.0,
        "max_return": 3.0,
        "episodes": 2,
        "mean_length": 20.0,
        "reward_per_step": 0.1,
        "cut_episodes": 1,
        "returns": [1.0, 3.0],
    }


# Policies with a memory, episodes without an end.


class SeededClock(Clock):
    """A clock whose episodes last 3 to 7 steps, as their seeds say."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._length = length_of(seed or 0)
        return super().reset(seed=seed)


def length_of(seed: int) -> int:
    return 3 + seed % 5


class Taped(Counter):
    """Counts the steps of each episode; notes each observation and what it remembered at it."""

    def __init__(self, head: QValues | None = None) -> None:
        super().__init__(head or QValues(2))
        self.tape: list[tuple[int, ...]] = []

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        self.tape += zip(*obs[:, 0].T.tolist(), carry[0].flatten().tolist(), strict=True)
        return super().step(obs, carry)


def test_a_memory_is_each_environments_own_and_begins_anew_with_its_episode() -> None:
    gymnasium.register("Clock-v0", entry_point=lambda **_: SeededClock(length=1))
    policy = Taped(QValues(4))
    evaluation = evaluate(policy, EnvironmentConfig(env="Clock-v0"), episodes=70)
    gymnasium.registry.pop("Clock-v0")
    # Episodes that do not count have no seed; of an ended one the last observation is left.
    played = [row for row in policy.tape if row[0] and row[1] < length_of(row[0])]
    assert all(remembered == age for _, age, remembered in played)
    seeds = {seed for seed, *_ in played}
    assert len(played) == evaluation.lengths.sum()
    assert sorted(map(length_of, seeds)) == sorted(evaluation.lengths)


def test_an_episode_without_an_end_is_cut_and_counted_as_it_stands() -> None:
    Scripted.scripts = ([1] * 10_000, [2] * 3)
    Scripted.played.clear()
    policy = Taped()
    evaluation = evaluate(policy, SCRIPTED, episodes=40, max_steps=7)
    assert len(evaluation.returns) == 40
    endless = evaluation.lengths == 7
    np.testing.assert_array_equal(evaluation.returns, np.where(endless, 7.0, 6.0))
    assert evaluation.cut == evaluation.summary()["cut_episodes"] == endless.sum()
    assert 0 < evaluation.cut < 40
    # The next one begins anew, in the environment and in the policy.
    assert max(remembered for *_, remembered in policy.tape) == 6


def test_an_evaluation_is_read_at_a_glance() -> None:
    played = Evaluation(np.array([203.323, 243.457]), np.array([9, 9]), cut=1)
    assert repr(played) == (
        "Evaluation: mean return 223.4 (203.3 … 243.5), min … max 203.3 … 243.5, 2 episodes (1 cut)"
    )


def test_a_policy_is_told_apart_from_its_environment_before_it_plays() -> None:
    with pytest.raises(UserError, match="3 actions; CartPole-v1 has 2"):
        evaluate(says(lambda obs: torch.zeros(len(obs), 3), 3), CARTPOLE, episodes=1)
    for episodes, max_steps in ((0, 9), (-1, 9), (9, 0)):
        with pytest.raises(UserError, match="at least 1"):
            evaluate(LEAN, CARTPOLE, episodes=episodes, max_steps=max_steps)


def test_what_goes_on_is_told_and_torchs_threads_are_left_alone() -> None:
    threads: set[int] = set()

    def noting(obs: Tensor) -> Tensor:
        threads.add(torch.get_num_threads())
        return towards(obs)

    told: list[str] = []
    torch.set_num_threads(3)
    evaluate(says(noting), CARTPOLE, episodes=4, note=told.append)
    assert threads == {3}
    counts = [int(line.split()[1]) for line in told]
    assert counts == sorted(set(counts))
    assert counts
    assert 0 < counts[0] < counts[-1] + 1 <= 4
    with owning(2):
        evaluate(says(noting), CARTPOLE, episodes=1)
        assert torch.get_num_threads() == 2
    assert threads == {3, 1}
    assert torch.get_num_threads() == 3


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


ANYTHING = says(lambda obs: torch.zeros(len(obs), 2))


def played(*scripts: Script, episodes: int, target: float, most: float) -> Evaluation | Abandoned:
    Scripted.scripts = scripts
    Scripted.played.clear()
    bound = Bound(target=target, most=most)
    return examine(ANYTHING, SCRIPTED, bound=bound, episodes=episodes)


LOSING = [-1, 0, 1, -1, 1, -1, 1]
"""Of 3 points for and 3 against: a return of at most 2, 1 and 0 after steps 1, 4 and 6."""


@pytest.mark.parametrize(
    ("target", "steps", "expected"),
    [
        (2.5, 1, Abandoned(2.0, -1.0, 4)),
        (2.0, 4, Abandoned(1.0, -1.0 / 4.0, 16)),
        (0.5, 6, Abandoned(0.0, -1.0 / 6.0, 24)),
        (3.5, 0, Abandoned(3.0, 0.0, 0)),
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
            return Abandoned(total / episodes, rewards / max(number, 1), number)
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
    whole = evaluate(ANYTHING, SCRIPTED, episodes=episodes)
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

    model = load("pong")
    pong = environment_of(model.env, model.obs_shape)
    bound = Bound(target=20.0, most=21.0)
    abandoned = examine(says(still, 6), pong, bound=bound, episodes=2, threads=1)
    assert isinstance(abandoned, Abandoned)
    assert abandoned.at_most == 19.5
    assert abandoned.reward_per_step == pytest.approx(-3.0 / asked[0], rel=0.02)
    assert asked[0] < 2 * 764 / 4
