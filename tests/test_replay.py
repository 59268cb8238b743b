import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams import (
    FRAME,
    GOES_ON,
    NUM_ACTIONS,
    TERMINATES,
    TRUNCATES,
    identify,
    index,
    invent,
    random_ends,
)
from tutelage.files import pack_state, unpack_state
from tutelage.replay import Replay, without_earlier
from tutelage.types import Array, Batch, Transitions

GAMMA = 0.9


@pytest.fixture(autouse=True)
def _never_hangs() -> Iterator[None]:
    """Turn an endless search for a state to draw into a failure (30 s of CPU time)."""

    def fail(number: int, frame: object) -> None:
        raise TimeoutError("drawing from the replay does not end")

    before = signal.signal(signal.SIGVTALRM, fail)
    signal.setitimer(signal.ITIMER_VIRTUAL, 30.0, 30.0)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    signal.signal(signal.SIGVTALRM, before)


def empty(*, capacity: int, num_envs: int, stack: int = 2, n_step: int = 1) -> Replay:
    return Replay(
        capacity=capacity,
        num_envs=num_envs,
        obs_shape=(stack, *FRAME),
        obs_dtype=np.int32,
        label_size=NUM_ACTIONS,
        rng=np.random.default_rng(0),
        n_step=n_step,
        gamma=GAMMA,
    )


def fill(replay: Replay, steps: list[Transitions]) -> Replay:
    for step in steps:
        replay.add(step)
    return replay


@dataclass(frozen=True)
class Situation:
    """A replay and, for reference, all that was ever put into it."""

    steps: list[Transitions]
    capacity: int
    stack: int
    n_step: int

    @property
    def num_envs(self) -> int:
        return len(self.steps[0].action)

    def replay(self) -> Replay:
        replay = empty(
            capacity=self.capacity, num_envs=self.num_envs, stack=self.stack, n_step=self.n_step
        )
        return fill(replay, self.steps)

    def ended(self, time: int, stream: int) -> bool:
        step = self.steps[time]
        return bool(step.terminated[stream] or step.truncated[stream])

    def drawable(self, *, ahead: int) -> set[tuple[int, int]]:
        """The states inside, with their whole stack still held and their next steps known, slowly.

        A stream has room for its share of the capacity, or for one transition if that is more;
        a truncated episode takes one more, for its last observation.
        """
        room = max(self.capacity // self.num_envs, self.stack + self.n_step + 1)
        found = set()
        for stream in range(self.num_envs):
            stored: list[int | None] = []
            for time, step in enumerate(self.steps):
                stored += [time, None] if step.truncated[stream] else [time]
            held = set(stored[-room:])
            for time in (t for t in held if t is not None):
                if not self.steps[time].inside[stream]:
                    continue
                past = [time]
                while len(past) < self.stack and past[0] and not self.ended(past[0] - 1, stream):
                    past.insert(0, past[0] - 1)
                future = range(time, min(time + ahead, len(self.steps)))
                later = self.steps[time + ahead :]
                known = any(t.inside[stream] or t.truncated[stream] for t in later) or any(
                    self.ended(t, stream) for t in future
                )
                if known and held.issuperset(past):
                    found.add((time, stream))
        return found

    def n_step_return(self, time: int, stream: int) -> tuple[float, float, Array | None]:
        """R, gamma^k and the observation to bootstrap from, step by step.

        Outside of the region it goes on until it is inside again.
        """
        total, discount = 0.0, 1.0
        for then, step in enumerate(self.steps[time:], start=time + 1):
            total += discount * float(step.reward[stream])
            discount *= GAMMA
            if step.terminated[stream]:
                return total, 0.0, None
            enough = then - time >= self.n_step
            if step.truncated[stream] or (enough and self.steps[then].inside[stream]):
                return total, discount, step.next_obs[stream]
        raise AssertionError("its future is not known")


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    num_envs = draw(st.integers(1, 3))
    endings = st.sampled_from([GOES_ON, GOES_ON, GOES_ON, TERMINATES, TRUNCATES])
    ends = draw(st.lists(endings, min_size=num_envs, max_size=90))
    stack = draw(st.integers(1, 4))
    shape = (len(ends) // num_envs, num_envs)
    share = draw(st.sampled_from([1.0, 1.0, 0.8, 0.5, 0.05]))
    inside = np.random.default_rng(draw(st.integers(0, 9))).random(shape) < share
    return Situation(
        steps=invent(np.resize(ends, shape), stack=stack, inside=inside),
        capacity=draw(st.integers(1, 70)),
        stack=stack,
        n_step=draw(st.integers(1, 5)),
    )


@settings(deadline=None, max_examples=80)
@given(situations())
def test_samples_are_exactly_the_states_held_as_the_environment_showed_them(it: Situation) -> None:
    drawable = it.drawable(ahead=0)
    if not drawable:
        with pytest.raises(ValueError, match="inside"):
            it.replay().sample(1)
        return
    batch = it.replay().sample(2000)
    assert batch.arm is not None
    drawn = identify(batch.obs, index(it.steps))
    assert set(drawn) == drawable
    np.testing.assert_array_equal(batch.arm, [it.steps[t].arm[s] for t, s in drawn])
    np.testing.assert_array_equal(batch.obs, [it.steps[t].obs[s] for t, s in drawn])
    np.testing.assert_array_equal(batch.label, [it.steps[t].label[s] for t, s in drawn])


@settings(deadline=None, max_examples=120)
@given(situations())
def test_transitions_equal_a_step_by_step_reference(it: Situation) -> None:
    drawable = it.drawable(ahead=it.n_step)
    if not drawable:
        with pytest.raises(ValueError, match="known"):
            it.replay().sample_transitions(1)
        return
    batch = it.replay().sample_transitions(2000)
    assert batch.arm is not None
    assert batch.action is not None
    assert batch.n_step_reward is not None
    assert batch.bootstrap is not None
    assert batch.next_obs is not None
    drawn = identify(batch.obs, index(it.steps))
    assert set(drawn) == drawable
    np.testing.assert_array_equal(batch.obs, [it.steps[t].obs[s] for t, s in drawn])
    np.testing.assert_array_equal(batch.label, [it.steps[t].label[s] for t, s in drawn])
    np.testing.assert_array_equal(batch.arm, [it.steps[t].arm[s] for t, s in drawn])
    np.testing.assert_array_equal(batch.action, [it.steps[t].action[s] for t, s in drawn])
    expected = {at: it.n_step_return(*at) for at in drawable}
    np.testing.assert_allclose(
        batch.n_step_reward, [expected[at][0] for at in drawn], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(batch.bootstrap, [expected[at][1] for at in drawn], rtol=1e-6)
    # Beyond termination lies no observation; the state itself stands in for it.
    after = {at: it.steps[at[0]].obs[at[1]] if e[2] is None else e[2] for at, e in expected.items()}
    np.testing.assert_array_equal(batch.next_obs, [after[at] for at in drawn])


def test_termination_stops_the_bootstrap_and_truncation_keeps_the_true_last_observation() -> None:
    ends = np.array([[GOES_ON, GOES_ON], [TERMINATES, TRUNCATES], *[[GOES_ON] * 2] * 4])
    steps = invent(ends, stack=2)
    batch = fill(empty(capacity=40, num_envs=2, n_step=3), steps).sample_transitions(200)
    assert batch.bootstrap is not None
    assert batch.next_obs is not None
    known = index(steps)
    drawn = identify(batch.obs, known)
    seen = {
        at: (float(b), o) for at, b, o in zip(drawn, batch.bootstrap, batch.next_obs, strict=True)
    }
    assert seen[0, 0][0] == 0.0
    assert seen[1, 0][0] == 0.0
    assert seen[0, 1][0] == pytest.approx(GAMMA**2)
    assert seen[1, 1][0] == pytest.approx(GAMMA)
    for at in ((0, 1), (1, 1)):
        np.testing.assert_array_equal(seen[at][1], steps[1].next_obs[1])


@pytest.mark.parametrize("capacity", [1000, 60], ids=["not yet full", "full"])
@pytest.mark.parametrize("ahead", [0, 3])
def test_every_state_is_equally_likely(capacity: int, ahead: int) -> None:
    """Chi-square, with one stream that takes two slots a step beside one that takes one."""
    ends = random_ends(steps=40, num_envs=3, likely=0.05)
    ends[:, 1] = TRUNCATES
    ends[:, 2] = GOES_ON
    it = Situation(invent(ends, stack=2), capacity, 2, 3)
    assert_equally_likely(it, ahead=ahead)


def test_few_states_inside_among_many_outside_are_equally_likely_too() -> None:
    ends = random_ends(steps=200, num_envs=3, likely=0.01)
    inside = np.random.default_rng(0).random(ends.shape) < 0.03
    it = Situation(invent(ends, stack=2, inside=inside), 1000, 2, 3)
    assert len(it.drawable(ahead=3)) < 25
    assert_equally_likely(it, ahead=3, batches=400, batch_size=3)


def assert_equally_likely(
    it: Situation, *, ahead: int, batches: int = 10, batch_size: int = 2000
) -> None:
    replay = it.replay()
    draw = replay.sample_transitions if ahead else replay.sample
    known = index(it.steps)
    counts: Counter[tuple[int, int]] = Counter()
    for _ in range(batches):
        counts.update(identify(draw(batch_size).obs, known))
    states = it.drawable(ahead=ahead)
    expected = batches * batch_size / len(states)
    chi_square = sum((counts[at] - expected) ** 2 / expected for at in states)
    freedom = len(states) - 1
    assert chi_square < freedom + 4.0 * np.sqrt(2.0 * freedom)


def same(a: Batch, b: Batch) -> bool:
    known, others = (
        {name: value for name, value in vars(batch).items() if value is not None}
        for batch in (a, b)
    )
    return known.keys() == others.keys() and all(
        torch.equal(value, others[name]) for name, value in known.items()
    )


@pytest.mark.parametrize("capacity", [300, 45], ids=["not yet full", "full"])
def test_a_restored_replay_goes_on_with_identical_samples(capacity: int, tmp_path: Path) -> None:
    steps = invent(random_ends(steps=60, num_envs=3), stack=3)
    original = fill(empty(capacity=capacity, num_envs=3, stack=3, n_step=2), steps[:40])
    original.sample_transitions(7)
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    # What the other replay held before must not shine through.
    restored = fill(empty(capacity=capacity, num_envs=3, stack=3, n_step=2), steps[::-1])
    restored.restore(unpack_state(tmp_path / "state"))
    assert len(restored) == len(original)
    for step in steps[40:]:
        assert same(restored.sample_transitions(16), original.sample_transitions(16))
        fill(original, [step])
        fill(restored, [step])


def test_a_step_of_pong_takes_a_frame_and_47_bytes() -> None:
    replay = Replay(
        capacity=64,
        num_envs=2,
        obs_shape=(4, 84, 84),
        obs_dtype=np.uint8,
        label_size=6,
        rng=np.random.default_rng(0),
    )
    # Age, action, reward, three flags, whose label it is, and the label of six.
    assert replay.bytes_per_step == 84 * 84 + 4 + 2 + 4 + 3 + 2 + 6 * 4


@pytest.mark.parametrize("wrong", ["capacity", "num_envs", "n_step"])
@pytest.mark.parametrize("number", [0, -3])
def test_a_replay_that_holds_nothing_is_refused(wrong: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"{wrong} {number}"):
        empty(**{"capacity": 10, "num_envs": 2, "n_step": 1, wrong: number})


def test_actions_and_labels_may_be_vectors_of_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ends = random_ends(steps=30, num_envs=2)
    action = rng.uniform(-1.0, 1.0, (30, 2, 3)).astype(np.float32)
    label = rng.normal(size=(30, 2, 7)).astype(np.float32)
    label[::3, :, 0] = -np.inf
    invented = invent(ends, stack=2)
    steps = [replace(s, action=a, label=y) for s, a, y in zip(invented, action, label, strict=True)]

    def build() -> Replay:
        return Replay(
            capacity=100,
            num_envs=2,
            obs_shape=(2, *FRAME),
            obs_dtype=np.int32,
            action_shape=(3,),
            action_dtype=np.float32,
            label_size=7,
            rng=np.random.default_rng(0),
        )

    original, restored = fill(build(), steps), build()
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    for replay in (original, restored):
        batch = replay.sample_transitions(100)
        drawn = identify(batch.obs, index(steps))
        assert batch.action is not None
        assert batch.action.dtype == torch.float32
        np.testing.assert_array_equal(batch.action, [action[t, s] for t, s in drawn])
        np.testing.assert_array_equal(batch.label, [label[t, s] for t, s in drawn])


def test_frames_from_before_the_episode_are_zero() -> None:
    stacks = np.arange(1, 25).reshape(3, 4, 2)
    expected = stacks.copy()
    expected[0, :3] = 0
    expected[1, :1] = 0
    cut = without_earlier(stacks, np.array([0, 2, 99], np.int32))
    np.testing.assert_array_equal(cut, expected)


def test_sampling_from_an_empty_replay_is_an_error() -> None:
    replay = empty(capacity=10, num_envs=2)
    assert len(replay) == 0
    with pytest.raises(ValueError, match="replay"):
        replay.sample(1)
    with pytest.raises(ValueError, match="replay"):
        replay.sample_transitions(1)


def test_a_replay_too_young_for_its_n_steps_says_so_instead_of_searching_forever() -> None:
    steps = invent(np.full((4, 2), GOES_ON), stack=2)
    replay = fill(empty(capacity=40, num_envs=2, n_step=3), steps[:3])
    with pytest.raises(ValueError, match="3 steps"):
        replay.sample_transitions(1)
    replay.add(steps[3])
    assert len(replay.sample_transitions(5).obs) == 5


@pytest.mark.parametrize(
    ("inside", "ahead"),
    [([], 0), ([], 3), ([5, 6, 7], 3)],
    ids=["none", "none with a future", "only the last three"],
)
def test_a_replay_of_states_outside_says_so_instead_of_searching_forever(
    inside: list[int], ahead: int
) -> None:
    within = np.isin(np.arange(8), inside)[:, None]
    steps = invent(np.full((8, 1), GOES_ON), stack=2, inside=within)
    replay = fill(empty(capacity=40, num_envs=1, n_step=3), steps)
    draw = replay.sample_transitions if ahead else replay.sample
    with pytest.raises(ValueError, match=rf"8 slots in use.*inside.*next {ahead} steps known"):
        draw(64)


def test_the_one_state_inside_is_found_among_many() -> None:
    ends = np.full((4000, 2), GOES_ON)
    inside = np.zeros(ends.shape, np.bool_)
    inside[1234, 1] = True
    steps = invent(ends, stack=2, inside=inside)
    batch = fill(empty(capacity=8000, num_envs=2), steps).sample(64)
    assert set(identify(batch.obs, index(steps))) == {(1234, 1)}


def test_a_step_that_leaves_the_region_lasts_until_it_is_entered_again() -> None:
    inside = np.array([[True], [True], [False], [False], [True], [False], [False]])
    steps = invent(np.full((7, 1), GOES_ON), stack=2, inside=inside)
    replay = fill(empty(capacity=40, num_envs=1, n_step=1), steps)
    batch = replay.sample_transitions(50)
    assert batch.n_step_reward is not None
    assert batch.bootstrap is not None
    assert batch.next_obs is not None
    times = [t for t, _ in identify(batch.obs, index(steps))]
    assert set(times) == {0, 1}  # what follows 4 is not known to its end
    r = [step.reward[0] for step in steps]
    returns = {0: r[0], 1: r[1] + GAMMA * r[2] + GAMMA**2 * r[3]}
    np.testing.assert_allclose(batch.n_step_reward, [returns[t] for t in times], rtol=1e-6)
    discounts = {0: GAMMA, 1: GAMMA**3}
    np.testing.assert_allclose(batch.bootstrap, [discounts[t] for t in times], rtol=1e-6)
    after = {0: steps[1], 1: steps[4]}
    for t, obs in zip(times, batch.next_obs, strict=True):
        np.testing.assert_array_equal(obs, after[t].obs[0])


def test_a_game_may_end_outside_of_the_region() -> None:
    ends = np.full((5, 1), GOES_ON)
    ends[2] = TERMINATES
    inside = np.array([[True], [False], [False], [True], [True]])
    steps = invent(ends, stack=2, inside=inside)
    batch = fill(empty(capacity=40, num_envs=1, n_step=1), steps).sample_transitions(50)
    assert batch.n_step_reward is not None
    assert batch.bootstrap is not None
    first = np.array([t == 0 for t, _ in identify(batch.obs, index(steps))])
    assert not batch.bootstrap[first].any()
    r = [step.reward[0] for step in steps]
    expected = r[0] + GAMMA * r[1] + GAMMA**2 * r[2]
    np.testing.assert_allclose(batch.n_step_reward[first], expected, rtol=1e-6)


def test_added_steps_are_copied() -> None:
    """An environment may reuse its arrays."""
    (step,) = invent(np.full((1, 1), GOES_ON), stack=2)
    replay = fill(empty(capacity=10, num_envs=1), [step])
    shown = step.obs.copy()
    step.obs[:] = -1
    np.testing.assert_array_equal(replay.sample(1).obs, shown)


def test_beyond_a_lost_life_nothing_is_worth_anything_and_the_stack_goes_on() -> None:
    replay = empty(capacity=20, num_envs=1, stack=2, n_step=2)
    frames = np.arange(8, dtype=np.int32)[:, None, None, None] * np.ones((1, 1, *FRAME), np.int32)
    for t in range(6):
        replay.add(
            Transitions(
                obs=np.stack([frames[max(t - 1, 0)][0], frames[t][0]])[None],
                action=np.array([0]),
                reward=np.ones(1, np.float32),
                terminated=np.array([False]),
                truncated=np.array([False]),
                next_obs=np.stack([frames[t][0], frames[t + 1][0]])[None],
                label=np.zeros((1, NUM_ACTIONS), np.float32),
                inside=np.array([True]),
                arm=np.array([0]),
                lost=np.array([t == 2]),
            )
        )
    batch = replay.sample_transitions(64)
    assert batch.n_step_reward is not None
    assert batch.bootstrap is not None
    found = {}
    for stack, reward, beyond in zip(batch.obs, batch.n_step_reward, batch.bootstrap, strict=True):
        older, newest = stack.flatten(1)[:, 0].tolist()
        found[newest] = (older, round(float(reward), 3), round(float(beyond), 3))
    whole = (round(1.0 + GAMMA, 3), round(GAMMA**2, 3))
    assert found == {
        0: (0, *whole),
        1: (0, 1.9, 0.0),
        2: (1, 1.0, 0.0),  # here the life is lost
        3: (2, *whole),
    }
