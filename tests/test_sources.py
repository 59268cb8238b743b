"""Acting and learning: who is asked what, in which order, and how often. See also test_offline."""

from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from tests.clock import vector
from tests.fakes import Counter, Fixed
from tutelage.environments import Environments, Step
from tutelage.errors import UserError
from tutelage.exploration import Select, epsilon_greedy
from tutelage.files import pack_state, unpack_state
from tutelage.heads import Categorical, Head, Point, QValues
from tutelage.loop import run
from tutelage.policies import Function, Policy
from tutelage.replay import Replay
from tutelage.schedules import constant, linear
from tutelage.sources.online import Behaviour, Online, steadily
from tutelage.teachers import Ensemble, Teacher
from tutelage.types import Array, Batch, Row, Schedule, State, StepOut, Transitions

CPU = torch.device("cpu")
NUM_ENVS, NUM_ACTIONS = 6, 4
NOTHING = Batch(obs=torch.empty(0), label=torch.empty(0))
ARM_0 = [0] * NUM_ENVS
LENGTHS = [3, 4, 5, 6, 7, 8]


class Taped(Environments):
    """Clocks that write down what is asked of them."""

    def __init__(self, tape: list[str]) -> None:
        super().__init__(vector(lengths=LENGTHS), seed=1, view=lambda obs: obs[:, np.newaxis])
        self._tape = tape

    def send(self, action: Array) -> Array:
        self._tape.append("send")
        return super().send(action)

    def recv(self) -> Step:
        self._tape.append("recv")
        return super().recv()


@dataclass
class Kept:
    """A memory that keeps every step as it came."""

    tape: list[str]
    steps: list[Transitions] = field(default_factory=list)

    def add(self, step: Transitions) -> None:
        self.tape.append("add")
        self.steps.append(step)

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


@dataclass
class Expert:
    """Prefers the action ``likes``; its other values say which state they were asked about."""

    tape: list[str]
    likes: int
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, obs: Tensor) -> Tensor:
        self.tape.append("label")
        self.asked += [(int(seed), int(time)) for seed, time in obs[:, -1]]
        q = torch.zeros(len(obs), NUM_ACTIONS)
        q[:, self.likes] = 1.0 + obs[:, -1].sum(dim=1).float()
        return q


def always(action: int) -> Select:
    return lambda head, out, env_steps, rng: np.full(len(out), action, np.int64)


def by_mode(head: Head, out: Tensor, env_steps: int, rng: np.random.Generator) -> Array:
    action: Array = head.mode(out).numpy()
    return action


class Scene:
    """An Online source whose every part writes on one tape; it also is what learns."""

    def __init__(
        self,
        teachers: Sequence[int | Policy] = (1, 2, 3),
        *,
        network: StepOut | None = None,
        head: Head | None = None,
        select: Select | None = None,
        teacher_acts: Schedule | None = None,
        per_step: float = 0.5,
        begin: int = 0,
    ) -> None:
        self.tape: list[str] = []
        self.updates = 0
        self.memory = Kept(self.tape)
        self.experts = [Expert(self.tape, t) for t in teachers if isinstance(t, int)]
        experts = iter(self.experts)
        policies: list[Policy] = [
            Function(next(experts), QValues(NUM_ACTIONS)) if isinstance(t, int) else t
            for t in teachers
        ]
        named = [Teacher(str(k), policy) for k, policy in enumerate(policies)]
        self.source = Online(
            Taped(self.tape),
            behaviour=Behaviour(
                network=network or self._student,
                head=head or QValues(NUM_ACTIONS),
                select=select or always(0),
                rng=np.random.default_rng(0),
                teacher_acts=teacher_acts or constant(0.0),
                shown={"epsilon": linear(1.0, 0.0, 100)},
            ),
            teachers=Ensemble(named) if named else None,
            memories={"kept": self.memory},
            due=steadily(self._sample, per_step=per_step, begin=begin, num_envs=NUM_ENVS),
            round_steps=4 * NUM_ENVS,
            device=CPU,
        )

    def _student(self, obs: Tensor, env_steps: int) -> Tensor:
        self.tape.append("act")
        return torch.arange(NUM_ACTIONS).float() + obs[:, -1, 1:]

    def _sample(self) -> Batch:
        self.tape.append("sample")
        return NOTHING

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.updates += 1
        self.tape.append("learn")
        return {}

    def play(self, *, rounds: int = 1, arm: Sequence[int] = ARM_0) -> list[Row]:
        """Play so many rounds of four steps of each environment."""
        return self.go_on(Fixed(arm), rounds=rounds)

    def go_on(self, assignment: Fixed, *, rounds: int = 1) -> list[Row]:
        return list(islice(run(self.source, self, assignment), rounds))

    @property
    def actions(self) -> npt.NDArray[np.int64]:
        return np.stack([step.action for step in self.memory.steps])


def test_a_step_is_act_send_label_learn_receive_remember() -> None:
    scene = Scene([1])
    scene.play()
    first = ["act", "send", "label", "recv", "add"]
    later = ["act", "send", "label", *["sample", "learn"] * 3, "recv", "add"]
    assert scene.tape == first + later * 3


def test_where_the_teacher_may_act_it_is_asked_before_and_only_once() -> None:
    scene = Scene([1], teacher_acts=constant(0.5), per_step=0.0)
    scene.play()
    assert scene.tape == ["act", "label", "send", "recv", "add"] * 4


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_every_state_is_labelled_once_and_by_its_chosen_teacher_alone(beta: float) -> None:
    scene = Scene(teacher_acts=constant(beta))
    arms = [[0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 1, 1]]
    for arm in arms:
        scene.play(arm=arm)
    labelled = Tally(state for expert in scene.experts for state in expert.asked)
    assert set(labelled.values()) == {1}
    assert len(labelled) == 2 * 4 * NUM_ENVS
    assert scene.experts[2].asked == []
    for i, step in enumerate(scene.memory.steps):
        assert step.arm.tolist() == arms[i // 4]
        for n, k in enumerate(arms[i // 4]):
            seed, time = (int(x) for x in step.obs[n, -1])
            assert (seed, time) in scene.experts[k].asked
            expected = np.zeros(NUM_ACTIONS, np.float32)
            expected[scene.experts[k].likes] = np.float32(1.0) + np.float32(seed + time)
            np.testing.assert_array_equal(step.label[n], expected)


def test_what_is_remembered_is_what_was_seen_done_and_got() -> None:
    scene = Scene(select=always(3))
    *_, row = scene.play(rounds=3)
    for before, after in zip(scene.memory.steps, scene.memory.steps[1:], strict=False):
        np.testing.assert_array_equal(before.action, 3)
        np.testing.assert_array_equal(before.reward, 3.0)
        np.testing.assert_array_equal(before.next_obs[:, 0, 1], before.obs[:, 0, 1] + 1)
        ended = before.terminated | before.truncated
        np.testing.assert_array_equal(after.obs[~ended], before.next_obs[~ended])
        np.testing.assert_array_equal(after.obs[ended, 0, 1], 0)
    metrics = row.metrics
    assert metrics["rollout/reward_per_step"] == 3.0
    assert metrics["rollout/episodes"] == 4 + 3 + 2 + 2 + 1 + 1
    assert metrics["rollout/ep_rew_mean"] == 3.0 * metrics["rollout/ep_len_mean"]
    assert metrics["rollout/epsilon"] == pytest.approx(1.0 - 12 * NUM_ENVS / 100)
    assert metrics["rollout/teacher_acts"] == 0.0


@pytest.mark.parametrize("per_step", [0.0, 0.0625, 0.5, 1.25])
@pytest.mark.parametrize("begin", [0, 1, 18, 20, 1000])
def test_batches_are_env_steps_times_batches_per_step_once_learning_begins(
    per_step: float, begin: int
) -> None:
    scene = Scene(per_step=per_step, begin=begin)
    rounds, before_learning = 10, 0
    while before_learning < max(begin, 1):
        before_learning += NUM_ENVS
    due = max(rounds * 4 * NUM_ENVS - before_learning, 0)
    *_, row = scene.play(rounds=rounds)
    assert (row.updates, row.env_steps) == (int(due * per_step), rounds * 4 * NUM_ENVS)


def test_env_steps_that_were_spent_elsewhere_are_counted_but_not_scheduled() -> None:
    scene = Scene(begin=18)
    scene.source.spend(1000)
    (row,) = scene.play()
    assert (row.env_steps, row.updates) == (1000 + 24, 3)
    assert row.metrics["rollout/epsilon"] == pytest.approx(1.0 - 24 / 100)


def test_the_student_acts_unless_the_teacher_is_asked_to() -> None:
    scene = Scene(select=by_mode)
    scene.play(rounds=2)
    assert (scene.actions == 3).all()
    scene = Scene([1, 2], select=by_mode, teacher_acts=constant(1.0))
    *_, row = scene.play(rounds=2, arm=[0, 1, 0, 1, 1, 0])
    assert (scene.actions == [1, 2, 1, 2, 2, 1]).all()
    assert row.metrics["rollout/teacher_acts"] == 1.0


def test_a_teacher_that_acts_half_of_the_time_is_drawn_per_environment_and_step() -> None:
    scene = Scene([1], teacher_acts=constant(0.5))
    rows = scene.play(rounds=100)
    follows = scene.actions == 1
    # Of 2400 fair draws the share lies within 0.04 of one half but once in ten thousand times.
    assert abs(follows.mean() - 0.5) < 0.04
    assert 0.4 < follows.all(axis=1).mean() * 2**NUM_ENVS < 2.0
    assert (np.abs(follows.mean(axis=0) - 0.5) < 0.12).all()
    shares = [row.metrics["rollout/teacher_acts"] for row in rows]
    np.testing.assert_allclose(shares, follows.reshape(100, -1).mean(axis=1))


def test_how_often_the_teacher_acts_follows_its_schedule_in_env_steps() -> None:
    scene = Scene([1], teacher_acts=linear(1.0, 0.0, 40 * NUM_ENVS))
    scene.play(rounds=20)
    assert (scene.actions[:2] == 1).mean() > 0.8
    assert 0.3 < (scene.actions[:40] == 1).mean() < 0.7
    assert (scene.actions[40:] == 0).all()


def test_without_teachers_the_labels_are_the_acting_networks_own_values() -> None:
    scene = Scene([], head=QValues(NUM_ACTIONS, temperature=0.5))
    (row,) = scene.play()
    assert "label" not in scene.tape
    assert "rollout/teacher_acts" not in row.metrics
    for step in scene.memory.steps:
        own = np.arange(NUM_ACTIONS, dtype=np.float32) + step.obs[:, -1, 1:].astype(np.float32)
        np.testing.assert_array_equal(step.label, 0.5 * own)


def gone_wrong(value: float, *actions: int) -> Function:
    def q(obs: Tensor) -> Tensor:
        answer = torch.zeros(len(obs), NUM_ACTIONS)
        answer[-1, list(actions)] = value
        return answer

    return Function(q, QValues(NUM_ACTIONS))


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize(
    ("value", "actions"), [(np.nan, [2]), (np.inf, [2]), (-np.inf, range(NUM_ACTIONS))]
)
def test_labels_that_are_no_numbers_stop_the_run_before_they_are_remembered(
    value: float, actions: Sequence[int], beta: float
) -> None:
    scene = Scene([gone_wrong(value, *actions)], teacher_acts=constant(beta))
    with pytest.raises(UserError, match="teacher 0: NaN or infinite"):
        scene.play()
    assert scene.memory.steps == []


def test_an_action_that_a_teacher_rules_out_is_remembered_as_such() -> None:
    scene = Scene([gone_wrong(-np.inf, 0, 2)], teacher_acts=constant(1.0))
    scene.play()
    assert scene.memory.steps[0].label[-1].tolist() == [-np.inf, 0.0, -np.inf, 0.0]
    assert scene.actions[:, -1].tolist() == [1] * 4


def test_a_network_that_labels_for_itself_is_held_to_the_same() -> None:
    broken = gone_wrong(np.nan, 2)
    scene = Scene([], network=lambda obs, env_steps: broken(obs))
    with pytest.raises(UserError, match="diverged within 0 env steps"):
        scene.play()
    assert scene.memory.steps == []


class Replacing(Fixed):
    """Puts another teacher in the place of one that failed, and notes which."""

    def __init__(self, arm: Sequence[int], other: int) -> None:
        super().__init__(arm)
        self.dropped: list[int] = []
        self._other = other

    def drop(self, arm: int, reason: str) -> None:
        assert reason
        self.dropped.append(arm)
        self.arm = np.where(self.arm == arm, self._other, self.arm)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize(
    "failing",
    [gone_wrong(np.nan, 1), Counter(QValues(NUM_ACTIONS), failing_at=1)],
    ids=["without a memory", "with a memory"],
)
def test_a_teacher_that_fails_is_dropped_once_and_another_labels_the_very_state(
    failing: Policy, beta: float
) -> None:
    scene = Scene([1, failing], teacher_acts=constant(beta))
    assignment = Replacing([1] * NUM_ENVS, other=0)
    scene.go_on(assignment, rounds=3)
    assert assignment.dropped == [1]
    assert all(step.arm.tolist() == ARM_0 for step in scene.memory.steps)
    assert all((step.label.argmax(axis=1) == 1).all() for step in scene.memory.steps)


def test_a_teacher_with_a_memory_that_fails_unasked_is_dropped_when_it_is_asked() -> None:
    failing = Counter(QValues(NUM_ACTIONS), failing_at=2)
    scene = Scene([1, failing])
    assignment = Replacing(ARM_0, other=0)
    scene.go_on(assignment, rounds=2)
    assert assignment.dropped == []
    assignment.arm = np.array([1, 0, 0, 1, 0, 0])
    scene.go_on(assignment, rounds=2)
    assert assignment.dropped == [1]
    assert len(scene.memory.steps) == 16


def ages(step: Transitions) -> Array:
    """Return how many states of its episode each environment has shown."""
    time: Array = step.obs[:, -1, 1] + 1
    return time


def counting() -> Scene:
    """Return a scene of two teachers with a memory and one without."""
    head = QValues(NUM_ACTIONS)
    return Scene([Counter(head), 2, Counter(head)])


ARMS = [[1] * NUM_ENVS, [0, 1, 1, 0, 2, 2], [1] * NUM_ENVS, [2, 0, 1, 2, 0, 1], ARM_0]


def test_a_teacher_with_a_memory_sees_every_state_asked_or_not() -> None:
    scene = counting()
    for arm in ARMS:
        scene.play(arm=arm)
    for step in scene.memory.steps:
        remembered = step.arm != 1
        np.testing.assert_array_equal(step.label[remembered, 1], ages(step)[remembered])


@pytest.mark.parametrize("after", range(len(ARMS)))
def test_what_a_teacher_remembers_survives_a_restart(after: int, tmp_path: Path) -> None:
    whole, first, second = counting(), counting(), counting()
    for arm in ARMS:
        whole.play(arm=arm)
    for arm in ARMS[:after]:
        first.play(arm=arm)
    second.play(arm=ARM_0)  # what it did before must not shine through
    (tmp_path / "state").write_bytes(pack_state(first.source.state()))
    second.source.restore(unpack_state(tmp_path / "state"))
    second.memory.steps.clear()
    for arm in ARMS[after:]:
        second.play(arm=arm)
    joined = first.memory.steps + second.memory.steps
    for a, b in zip(joined, whole.memory.steps, strict=True):
        np.testing.assert_array_equal(a.label, b.label)
        np.testing.assert_array_equal(a.obs, b.obs)


class Slider(gymnasium.Env[Array, Array]):
    """Shows the action that it was given."""

    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(
        np.array([-2.0, 0.0], np.float32), np.array([4.0, 1.0], np.float32)
    )

    def reset(self, **given: Any) -> tuple[Array, dict[str, Any]]:
        return np.zeros(2, np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return action, 0.0, False, False, {}


def test_actions_may_be_vectors_of_numbers_in_units_of_their_range() -> None:
    tape: list[str] = []
    memory = Kept(tape)
    vector_env = SyncVectorEnv([Slider] * 3, autoreset_mode=AutoresetMode.NEXT_STEP)
    student, teacher = torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 9.0]])
    source = Online(
        Environments(vector_env, seed=1, view=lambda obs: obs[:, np.newaxis]),
        behaviour=Behaviour(
            network=lambda obs, step: student.repeat(len(obs), 1),
            head=Point(2),
            select=by_mode,
            rng=np.random.default_rng(0),
            teacher_acts=constant(0.5),
        ),
        teachers=Ensemble(
            [Teacher("t", Function(lambda obs: teacher.repeat(len(obs), 1), Point(2)))]
        ),
        memories={"kept": memory},
        due=None,
        round_steps=60,
        device=CPU,
    )
    next(run(source, Scene(), Fixed([0] * 3)))
    followed = 0
    for step in memory.steps:
        assert step.action.shape == (3, 2)
        assert step.action.dtype == np.float32
        assert step.label.tolist() == [[-1.0, 9.0]] * 3
        for action, seen in zip(step.action.tolist(), step.next_obs[:, 0].tolist(), strict=True):
            followed += action == [-1.0, 1.0]
            assert (action, seen) in (([0.5, -1.0], [2.5, 0.0]), ([-1.0, 1.0], [-2.0, 1.0]))
    assert 10 < followed < 50


def cartpole() -> Online:
    """A student that learns nothing, and two teachers of which one acts half of the time."""
    envs = Environments(
        SyncVectorEnv(
            [lambda: gymnasium.make("CartPole-v1")] * 3, autoreset_mode=AutoresetMode.NEXT_STEP
        ),
        seed=1,
        view=lambda obs: obs[:, np.newaxis],
    )
    replay = Replay(
        capacity=120,
        num_envs=3,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        label_size=2,
        rng=np.random.default_rng(1),
        n_step=3,
    )
    weights = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    teachers = [
        Teacher(str(k), Function(lambda obs, w=weights[k]: obs[:, 0] @ w, Categorical(2)))  # type: ignore[misc]
        for k in (1, 2)
    ]
    return Online(
        envs,
        behaviour=Behaviour(
            network=lambda obs, env_steps: obs[:, 0] @ weights[0],
            head=Categorical(2),
            select=epsilon_greedy(constant(0.5)).select,
            rng=np.random.default_rng(2),
            teacher_acts=constant(0.5),
        ),
        teachers=Ensemble(teachers),
        memories={"replay": replay},
        due=steadily(lambda: replay.sample_transitions(8), per_step=0.3, begin=30, num_envs=3),
        round_steps=60,
        device=CPU,
    )


class Batches:
    """Learns nothing and keeps what it is given."""

    updates = 0

    def __init__(self) -> None:
        self.given: list[Batch] = []

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.given.append(batch)
        return {}


def test_a_restored_source_goes_on_identically(tmp_path: Path) -> None:
    arm = Fixed([0, 1, 1])
    original, restored = cartpole(), cartpole()
    kept = Batches(), Batches()
    list(islice(run(original, Batches(), arm), 3))
    next(run(restored, Batches(), Fixed([1, 1, 0])))  # what it did before must not shine through
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    rows = [
        list(islice(run(source, learner, arm), 4))
        for source, learner in zip((original, restored), kept, strict=True)
    ]
    assert [row.metrics for row in rows[0]] == [row.metrics for row in rows[1]]
    assert rows[0][-1].metrics["rollout/episodes"] > 20
    assert rows[0][-1].env_steps == rows[1][-1].env_steps == 7 * 60
    assert len(kept[0].given) >= 70
    for a, b in zip(*(learner.given for learner in kept), strict=True):
        for name, value in vars(a).items():
            torch.testing.assert_close(getattr(b, name), value, rtol=0, atol=0, msg=name)
