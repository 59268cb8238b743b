"""What holds of any environments: seeds, ends of episodes, going back, faults of their own."""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.clock import Clock, clocks
from tests.players import assert_equal_arrays as assert_same
from tutelage.domains import EnvironmentConfig, camera, make
from tutelage.domains.gym import GymSettings
from tutelage.environments import Environments, Restricted, Step
from tutelage.errors import FaultyEnvironmentError, UserError
from tutelage.files import pack_state, unpack_state
from tutelage.heads import head_for
from tutelage.types import Array

CARTPOLE = EnvironmentConfig(env="CartPole-v1", num_envs=4)
Actions = npt.NDArray[np.int64]


def balance(obs: npt.NDArray[np.float32]) -> Actions:
    """Keep CartPole's pole up, and its cart near the middle."""
    return (obs[:, -1] @ np.array([0.05, 0.1, 1.0, 0.5], np.float32) > 0).astype(np.int64)


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
    region: Callable[[Array], npt.NDArray[np.bool_]], every: int, inside: list[list[int]]
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


def test_a_cut_episode_ends_there_and_the_next_one_begins() -> None:
    cut, whole = clocks(lengths=[9, 9, 9]), clocks(lengths=[3, 9, 9])
    for _ in range(3):
        for envs in (cut, whole):
            envs.step(np.array([1, 2, 3]))
    assert cut.cut(np.array([True, False, False])) == ((3.0, 3),)
    # As if it had ended by itself: the same next episode, and the others go on.
    np.testing.assert_array_equal(cut.obs, whole.obs)
    assert cut.ages.tolist() == whole.ages.tolist() == [0, 3, 3]
    for step in range(6):
        a, b = (envs.step(np.array([1, 2, 3])) for envs in (cut, whole))
        np.testing.assert_array_equal(a.next_obs[1:], b.next_obs[1:], err_msg=str(step))
    assert a.finished[-2:] == b.finished[-2:] == ((18.0, 9), (27.0, 9))
    assert cut.state()["episode"].tolist() == [1, 1, 1]


def test_a_cut_in_a_region_begins_anew_what_is_repeated() -> None:
    """Of a clock in no region, every third step counts: of a cut episode too."""
    envs = clocks(lengths=[9, 9], region=never, every=3)
    for _ in range(4):
        envs.step(np.array([1, 1]))
    envs.cut(np.array([True, False]))
    inside = [[0, 0], [0, 1], [1, 0], [0, 0], [0, 1]]
    played = [envs.play(np.array([2, 3]), np.zeros((2, 4), np.float32)) for _ in inside]
    np.testing.assert_array_equal([step.inside for step in played], inside)


# Actions of any kind.

SPACES: dict[str, gymnasium.Space[Any]] = {
    "discrete from 1": spaces.Discrete(3, start=1),
    "discrete from -2": spaces.Discrete(5, start=-2),
    "several": spaces.MultiDiscrete([2, 3]),
    "several in rows": spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "yes or no": spaces.MultiBinary((2, 2)),
    "numbers": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 8], np.float32)),
    "one of two fixed": spaces.Box(np.array([1, 0], np.float32), np.array([1, 2], np.float32)),
    "one number": spaces.Box(-1.0, 3.0, ()),
    "numbers in rows": spaces.Box(-3.0, 3.0, (2, 2), np.float64),
}


@pytest.mark.parametrize("region", [None, early])
@pytest.mark.parametrize("name", SPACES)
def test_actions_of_any_kind_arrive_as_the_space_has_them_and_are_replayed(
    name: str, region: Any, tmp_path: Path
) -> None:
    space = SPACES[name]
    done: list[Any] = []
    varied = set()

    class Strict(Clock):
        def step(self, action: Any) -> Any:
            assert space.contains(action), action
            done.append(action)
            return super().step(action)

    def build() -> Environments:
        kinds = [lambda length=n: Strict(length=length, actions=space) for n in (6, 5, 3)]
        env = SyncVectorEnv(kinds, autoreset_mode=AutoresetMode.NEXT_STEP)
        envs = Environments(env, seed=1, view=lambda obs: obs[:, np.newaxis])
        return envs if region is None else Restricted(envs, region)

    head = head_for(space)
    assert head.fits(space)
    rng = np.random.default_rng(0)
    original, restored = build(), build()
    assert original.last_action().shape == head.random(3, rng).shape
    for _ in range(7):
        restored.step(head.random(3, rng))
    for _ in range(10):
        original.step(head.random(3, rng))
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    np.testing.assert_array_equal(restored.obs, original.obs)
    np.testing.assert_array_equal(restored.last_action(), original.last_action())
    for _ in range(20):
        action = head.random(3, rng)
        done.clear()
        a, b = (envs.step(action) for envs in (original, restored))
        assert_same(a, b)
        np.testing.assert_array_equal(done[:3], done[3:])
        varied |= {str(one) for one in done}
    assert len(varied) > 1


def test_a_first_action_is_the_spaces_first_and_a_boxs_middle_is_0() -> None:
    envs = clocks(lengths=[9, 9], actions=spaces.Discrete(3, start=5))
    assert envs.step(np.array([0, 2])).reward.tolist() == [5.0, 7.0]
    envs = clocks(lengths=[9], actions=SPACES["numbers"])
    assert envs.step(np.zeros((1, 2), np.float32)).reward.tolist() == [4.0]
    assert envs.step(np.array([[1.0, -9.0]], np.float32)).reward.tolist() == [2.0]  # clipped


# Faults of the environment's own.


class Faulty(gymnasium.Env[Any, Any]):
    """The second one made does something wrong in its second episode."""

    fault = ""
    made = 0

    def __init__(self, **_: Any) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,))
        self.action_space = spaces.Discrete(2)
        self._episode = -1
        self._fault = self.fault if self.made % 2 else ""
        type(self).made += 1

    def reset(self, **_: Any) -> Any:
        self._episode, self._time = self._episode + 1, 0
        obs = np.zeros(2, np.float32)
        if self._episode == 1 and self._fault == "no beginning":
            raise RuntimeError("out of order")
        if self._episode == 1 and self._fault == "a bad beginning":
            obs[0] = np.inf
        return obs, {}

    def step(self, action: Any) -> Any:
        self._time += 1
        now = self._fault if self._episode == 1 and self._time == 3 else ""
        if now == "raises":
            raise ZeroDivisionError("no luck")
        reward = np.nan if now == "reward" else 1.0
        obs = np.array([0.0, np.nan if now == "observation" else 0.0], np.float32)
        info = {"action_mask": MASKS[now]} if now in MASKS else {}
        return obs, reward, self._time == 4, False, info

    def close(self) -> None:
        raise RuntimeError("stuck")


@pytest.fixture
def faulty() -> Iterator[str]:
    gymnasium.register("Faulty-v0", entry_point=Faulty, disable_env_checker=True)
    yield "Faulty-v0"
    gymnasium.registry.pop("Faulty-v0")


def play_on(envs: Environments) -> None:
    for _ in range(9):
        envs.step(np.zeros(envs.num_envs, np.int64))


MASKS = {
    "a mask of too many": [1, 1, 1],
    "a mask of none": [0, 0],
    "no mask at all": None,
}
FAULTS = {
    "a mask of too many": ["environment 1", "action_mask [1, 1, 1], expected one of 2 actions"],
    "a mask of none": ["rules out every action", "step 3", "environment 1", "episode 1"],
    "no mask at all": ["environment 1", "action_mask None, expected one of 2 actions"],
    "raises": ["environment 1", "ZeroDivisionError('no luck')", "step 3"],
    "reward": ["environment 1", "reward nan", "step 3", "episode 1"],
    "observation": ["environment 1", "observation", "step 3", "episode 1"],
    "a bad beginning": ["environment 1", "observation", "step 0", "episode 1"],
    "no beginning": ["environment 1", "RuntimeError('out of order')", "step 0"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_environments_names_it_and_the_step(
    fault: str, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "fault", fault)
    monkeypatch.setattr(Faulty, "made", 0)
    envs = make(EnvironmentConfig(env=faulty, num_envs=2), seed=1)
    with pytest.raises(FaultyEnvironmentError) as caught:
        play_on(envs)
    envs.close()  # what fails in that hides nothing
    assert all(word in str(caught.value) for word in FAULTS[fault])


def old_fashioned(**options: Any) -> gymnasium.Env[Any, Any]:
    warnings.warn("it will go away", DeprecationWarning, stacklevel=1)
    gymnasium.logger.warn("you are calling render method without specifying any render mode")
    return gymnasium.make("CartPole-v1", **options)


@pytest.mark.filterwarnings("error")
def test_what_libraries_say_of_themselves_stays_off_the_terminal() -> None:
    filters = list(warnings.filters)
    config = EnvironmentConfig(env=f"{__name__}:old_fashioned", num_envs=1)
    for envs in (make(config, seed=1), camera(config, seed=1, stream="film")):
        envs.close()
    assert list(warnings.filters) == filters
    with pytest.raises(DeprecationWarning):  # it is silenced where environments are made alone
        old_fashioned()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium's own words on it
def test_a_fault_in_a_process_of_its_own_is_named_as_well(
    faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "fault", "raises")
    monkeypatch.setattr(Faulty, "made", 0)  # before the processes begin, one is made and looked at
    config = EnvironmentConfig(env=faulty, num_envs=1, gymnasium=GymSettings(vector="async"))
    envs = make(config, seed=1)
    with pytest.raises(FaultyEnvironmentError, match=r"environment 0 raised ZeroDiv.* step 3"):
        play_on(envs)
    envs.close()


class Dying(Clock):
    """Its process ends in a step."""

    def __init__(self, **_: Any) -> None:
        super().__init__(length=3)

    def step(self, action: Any) -> Any:
        return os._exit(1) if action else super().step(action)


@pytest.mark.filterwarnings("ignore::UserWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_a_process_that_is_lost_is_a_fault_and_takes_the_others_with_it() -> None:
    settings = GymSettings(vector="async")
    config = EnvironmentConfig(env=f"{__name__}:Dying", num_envs=3, gymnasium=settings)
    envs = make(config, seed=1)
    with pytest.raises(FaultyEnvironmentError):
        envs.step(np.array([0, 1, 0]))
    envs.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("kind", [list, np.array])
def test_actions_to_be_had_are_those_of_each_environments_own_mask(kind: Any) -> None:
    class Masked(Clock):
        def reset(self, **given: Any) -> Any:
            obs, _ = super().reset(**given)
            return obs, {"action_mask": kind([0, 1, 1, 1])}

        def step(self, action: Any) -> Any:
            *step, _ = super().step(action)
            return *step, {"action_mask": kind([1, 1, 0, 0])} if action else {}

    kinds = [lambda: Masked(length=2) for _ in range(4)]
    envs = Environments(SyncVectorEnv(kinds, autoreset_mode=AutoresetMode.NEXT_STEP), seed=1)
    begun, left = [False, True, True, True], [True, True, False, False]
    for action, expected in (([0, 1, 0, 2], [begun, left, begun, left]), ([1] * 4, [begun] * 4)):
        envs.step(np.array(action))
        assert envs.action_mask is not None
        assert envs.action_mask.tolist() == expected


def test_what_no_policy_could_play_is_refused() -> None:
    class Masked(Clock):
        def reset(self, **given: Any) -> Any:
            obs, _ = super().reset(**given)
            return obs, {"action_mask": [1]}

    class Empty(gymnasium.Env[Any, Any]):
        observation_space = spaces.Box(-1.0, 1.0, (0,))
        action_space = spaces.Discrete(2)

        def reset(self, **_: Any) -> Any:
            return np.zeros(0, np.float32), {}

    box = spaces.Box(-1.0, 1.0, (1,))
    with pytest.raises(FaultyEnvironmentError, match="action_mask, but their actions are Box"):
        Environments(SyncVectorEnv([lambda: Masked(length=3, actions=box)]), seed=1)
    with pytest.raises(UserError, match="hold no numbers"):
        Environments(SyncVectorEnv([Empty]), seed=1)
