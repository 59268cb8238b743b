"""Acting and learning: who is asked what, in which order, and how often. See also test_offline."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tests.clock import vector
from tests.fakes import Fixed
from tutelage.domains.atari import EnvironmentConfig, make
from tutelage.environments import Environments, Step
from tutelage.errors import UserError
from tutelage.exploration import epsilon_greedy
from tutelage.files import pack_state, unpack_state
from tutelage.replay import Replay
from tutelage.schedules import constant, linear
from tutelage.sources.online import Online
from tutelage.teachers import Ensemble
from tutelage.teachers import Teacher as Hired
from tutelage.types import Batch, QFunction, State, Transitions

CPU = torch.device("cpu")
NUM_ENVS, NUM_ACTIONS = 6, 4
NOTHING = Batch(obs=torch.empty(0), label=torch.empty(0))
ARM_0 = [0] * NUM_ENVS
Action = npt.NDArray[np.int64]


class Taped(Environments):
    """Clocks that write down what is asked of them."""

    def __init__(self, tape: list[str]) -> None:
        super().__init__(
            vector(lengths=[3, 4, 5, 6, 7, 8]), seed=1, view=lambda obs: obs[:, np.newaxis]
        )
        self._tape = tape

    def send(self, action: Action) -> Action:
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
class Teacher:
    """Prefers the action ``likes``; its other Q-values say which state they were asked about."""

    tape: list[str]
    likes: int
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, obs: Tensor) -> Tensor:
        self.tape.append("label")
        self.asked += [(int(seed), int(time)) for seed, time in obs[:, -1]]
        q = torch.zeros(len(obs), NUM_ACTIONS)
        q[:, self.likes] = 1.0 + obs[:, -1].sum(dim=1).float()
        return q


def always(action: int) -> Callable[[Any, int, np.random.Generator], Action]:
    return lambda q, env_steps, rng: np.full(len(q), action, np.int64)


class Scene:
    """An Online source whose every part writes on one tape."""

    def __init__(self, *, teachers: Sequence[int] = (1, 2, 3), **settings: Any) -> None:
        self.tape: list[str] = []
        self.envs = Taped(self.tape)
        self.memory = Kept(self.tape)
        self.teachers = [Teacher(self.tape, likes) for likes in teachers]
        self.source = Online(
            self.envs,
            **{
                "student": self._student,
                "label": self._label if teachers else None,
                "select": always(0),
                "memories": {"kept": self.memory},
                "sample": self._sample,
                "batches_per_step": 0.5,
                "learning_starts": 0,
                "round_steps": 4 * NUM_ENVS,
                "rng": np.random.default_rng(0),
                "device": CPU,
                **settings,
            },
        )

    def _student(self, obs: Tensor, env_steps: int) -> Tensor:
        self.tape.append("act")
        return torch.arange(NUM_ACTIONS).float() + obs[:, -1, 1:]

    def _label(self, obs: Tensor, arm: Action, env_steps: int) -> Tensor:
        ensemble = Ensemble([Hired(str(k), teacher) for k, teacher in enumerate(self.teachers)])
        return ensemble(obs, arm, env_steps)

    def _sample(self) -> Batch:
        self.tape.append("sample")
        return NOTHING

    def play(self, *, rounds: int = 1, arm: Sequence[int] = ARM_0) -> int:
        """Play so many rounds of four steps; return the number of batches."""
        return sum(1 for _ in range(rounds) for _ in self.source.collect(Fixed(arm)))

    @property
    def actions(self) -> Action:
        return np.stack([step.action for step in self.memory.steps])


def test_a_step_is_act_send_label_learn_receive_remember() -> None:
    scene = Scene(teachers=[1])
    scene.play()
    first = ["act", "send", "label", "recv", "add"]
    later = ["act", "send", "label", "sample", "sample", "sample", "recv", "add"]
    assert scene.tape == first + later * 3


def test_the_learner_has_its_step_while_the_emulators_work() -> None:
    scene = Scene(teachers=[1])
    for _ in scene.source.collect(Fixed(ARM_0)):
        scene.tape.append("learn")
    at = scene.tape.index("learn")
    assert "send" in scene.tape[:at]
    assert scene.tape[:at].count("send") == scene.tape[:at].count("recv") + 1


def test_where_the_teacher_may_act_it_is_asked_before_and_only_once() -> None:
    scene = Scene(teachers=[1], teacher_acts=constant(0.5), batches_per_step=0.0)
    scene.play()
    assert scene.tape == ["act", "label", "send", "recv", "add"] * 4


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_every_state_is_labelled_once_and_by_its_chosen_teacher_alone(beta: float) -> None:
    scene = Scene(teacher_acts=constant(beta))
    arms = [[0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 1, 1]]
    for arm in arms:
        scene.play(arm=arm)
    labelled = Counter(state for teacher in scene.teachers for state in teacher.asked)
    assert set(labelled.values()) == {1}
    assert len(labelled) == 2 * 4 * NUM_ENVS
    assert scene.teachers[2].asked == []
    for i, step in enumerate(scene.memory.steps):
        for n, k in enumerate(arms[i // 4]):
            seed, time = (int(x) for x in step.obs[n, -1])
            assert (seed, time) in scene.teachers[k].asked
            expected = np.zeros(NUM_ACTIONS, np.float32)
            expected[scene.teachers[k].likes] = np.float32(1.0) + np.float32(seed + time)
            np.testing.assert_array_equal(step.label[n], expected)


def test_what_is_remembered_is_what_was_seen_done_and_got() -> None:
    scene = Scene(select=always(3))
    scene.play(rounds=3)
    for before, after in zip(scene.memory.steps, scene.memory.steps[1:], strict=False):
        np.testing.assert_array_equal(before.action, 3)
        np.testing.assert_array_equal(before.reward, 3.0)
        np.testing.assert_array_equal(before.next_obs[:, 0, 1], before.obs[:, 0, 1] + 1)
        ended = before.terminated | before.truncated
        np.testing.assert_array_equal(after.obs[~ended], before.next_obs[~ended])
        np.testing.assert_array_equal(after.obs[ended, 0, 1], 0)
    metrics = scene.source.metrics()
    assert metrics["rollout/reward_per_step"] == 3.0
    assert metrics["rollout/episodes"] == 4 + 3 + 2 + 2 + 1 + 1
    assert metrics["rollout/ep_rew_mean"] == 3.0 * metrics["rollout/ep_len_mean"]


@pytest.mark.parametrize("batches_per_step", [0.0, 0.0625, 0.5, 1.25])
@pytest.mark.parametrize("learning_starts", [0, 1, 18, 20, 1000])
def test_batches_are_env_steps_times_batches_per_step_once_learning_starts(
    batches_per_step: float, learning_starts: int
) -> None:
    scene = Scene(batches_per_step=batches_per_step, learning_starts=learning_starts)
    rounds, before_learning = 10, 0
    while before_learning < max(learning_starts, 1):
        before_learning += NUM_ENVS
    due = max(rounds * 4 * NUM_ENVS - before_learning, 0)
    assert scene.play(rounds=rounds) == int(due * batches_per_step)
    assert scene.source.env_steps == rounds * 4 * NUM_ENVS


def test_the_student_acts_unless_the_teacher_is_asked_to() -> None:
    scene = Scene(select=lambda q, env_steps, rng: q.argmax(axis=1))
    scene.play(rounds=2)
    assert (scene.actions == 3).all()


def test_a_teacher_that_always_acts_takes_its_best_action() -> None:
    scene = Scene(teachers=[1, 2], teacher_acts=constant(1.0))
    scene.play(rounds=2, arm=[0, 1, 0, 1, 1, 0])
    assert (scene.actions == [1, 2, 1, 2, 2, 1]).all()


def test_a_teacher_that_acts_half_of_the_time_is_drawn_per_environment_and_step() -> None:
    scene = Scene(teachers=[1], teacher_acts=constant(0.5))
    scene.play(rounds=100)
    follows = scene.actions == 1
    # Of 2400 fair draws the share lies within 0.04 of one half but once in ten thousand times.
    assert abs(follows.mean() - 0.5) < 0.04
    assert 0.4 < follows.all(axis=1).mean() * 2**NUM_ENVS < 2.0
    assert (np.abs(follows.mean(axis=0) - 0.5) < 0.12).all()


def test_how_often_the_teacher_acts_follows_its_schedule_in_env_steps() -> None:
    scene = Scene(teachers=[1], teacher_acts=linear(1.0, 0.0, 40 * NUM_ENVS))
    scene.play(rounds=20)
    assert (scene.actions[:2] == 1).mean() > 0.8
    assert 0.3 < (scene.actions[:40] == 1).mean() < 0.7
    assert (scene.actions[40:] == 0).all()


def test_without_teachers_the_labels_are_the_acting_networks_own() -> None:
    scene = Scene(teachers=[])
    scene.play()
    assert "label" not in scene.tape
    for step in scene.memory.steps:
        own = np.arange(NUM_ACTIONS, dtype=np.float32) + step.obs[:, -1, 1:].astype(np.float32)
        np.testing.assert_array_equal(step.label, own)


def gone_wrong(value: float) -> QFunction:
    def q(obs: Tensor) -> Tensor:
        answer = torch.zeros(len(obs), NUM_ACTIONS)
        answer[-1, 2] = value
        return answer

    return q


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_labels_that_are_no_numbers_stop_the_run_before_they_are_remembered(
    value: float, beta: float
) -> None:
    scene = Scene(teacher_acts=constant(beta))
    scene.teachers[0] = gone_wrong(value)  # type: ignore[call-overload]
    with pytest.raises(UserError, match="teacher 0: NaN or infinite Q-values at env step 0"):
        scene.play()
    assert scene.memory.steps == []


def test_a_network_that_labels_for_itself_is_held_to_the_same() -> None:
    broken = gone_wrong(np.nan)
    scene = Scene(teachers=[], student=lambda obs, env_steps: broken(obs))
    with pytest.raises(UserError, match="diverged within 0 env steps"):
        scene.play()
    assert scene.memory.steps == []


def linear_q(weights: Tensor) -> QFunction:
    return lambda obs: obs[:, 0] @ weights


def cartpole() -> Online:
    """A student that learns nothing, and two teachers of which one acts half of the time."""
    envs = make(EnvironmentConfig(env="CartPole-v1", num_envs=3), seed=1)
    replay = Replay(
        capacity=120,
        num_envs=3,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        num_actions=2,
        rng=np.random.default_rng(1),
        n_step=3,
    )
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 4, 2, generator=generator)
    return Online(
        envs,
        student=lambda obs, env_steps: obs[:, 0] @ weights[0],
        label=Ensemble([Hired(str(k), linear_q(weights[k])) for k in (1, 2)]),
        select=epsilon_greedy(constant(0.5)).select,
        memories={"replay": replay},
        sample=lambda: replay.sample_transitions(8),
        batches_per_step=0.3,
        learning_starts=30,
        round_steps=60,
        rng=np.random.default_rng(2),
        device=CPU,
        teacher_acts=constant(0.5),
    )


def test_a_restored_source_goes_on_identically(tmp_path: Path) -> None:
    arm = Fixed([0, 1, 1])
    original, restored = cartpole(), cartpole()
    for _ in range(3):
        list(original.collect(arm))
    list(restored.collect(Fixed([1, 1, 0])))  # what it did before must not shine through
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    for _ in range(4):
        batches = [list(source.collect(arm)) for source in (original, restored)]
        assert len(batches[0]) >= 17
        for a, b in zip(*batches, strict=True):
            for name, value in vars(a).items():
                torch.testing.assert_close(getattr(b, name), value, rtol=0, atol=0, msg=name)
        assert restored.metrics() == original.metrics()
        assert restored.env_steps == original.env_steps
    assert original.metrics()["rollout/episodes"] > 20
